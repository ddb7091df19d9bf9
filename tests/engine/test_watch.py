"""What a training leaves to be looked at."""

from __future__ import annotations

import json
import logging
import math
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from vlray.config.training import WatchSection
from vlray.engine import progress
from vlray.engine.curves import draw, smoothed
from vlray.engine.watch import Watch, check
from vlray.runs.metrics import Record, last_best

PLAIN = WatchSection(tensorboard=False)


def train_record(step: int, **values: float) -> Record:
    return {"step": step, "time": 1e9 + step, "kind": "train", **values}


def valid_record(step: int, **values: float) -> Record:
    return {"step": step, "time": 1e9 + step, "kind": "valid", **values}


def metrics_of(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events_of(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Read TensorBoard's records: a length, its checksum, the event, its checksum."""
    (path,) = folder.glob("events.out.tfevents.*")
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield value.tag, event.step, value.simple_value


def test_figures_are_written_at_once_and_to_the_last_bit(tmp_path: Path) -> None:
    with Watch(tmp_path, PLAIN, steps=2, title="a run") as watch:
        watch.step(1, {"loss": 0.1 + 0.2, "lr": 5e-5 / 3})
        watch.evaluated(1, {"accuracy": 200 / 3, "loss": math.inf}, best=True)
        first, second = metrics_of(tmp_path)
        assert (first["step"], first["kind"], first["loss"]) == (1, "train", 0.1 + 0.2)
        assert first["lr"] == 5e-5 / 3
        assert (second["kind"], second["accuracy"], second["best"]) == ("valid", 200 / 3, True)
        assert second["loss"] is None
    assert math.isinf(watch.history[1]["loss"])


def test_a_resumed_run_has_the_figures_of_the_whole_training(tmp_path: Path) -> None:
    options = WatchSection()
    with Watch(tmp_path, options, steps=4, title="a run") as watch:
        watch.step(1, {"loss": 4.0})
        watch.step(2, {"loss": 3.0})
        saved = list(watch.history)
        watch.step(3, {"loss": math.nan})
    with Watch(tmp_path, options, steps=4, title="a run", history=saved) as watch:
        watch.step(3, {"loss": 2.0})
        watch.evaluated(3, {"accuracy": 50.0})
    assert [record.get("loss") for record in metrics_of(tmp_path)] == [4, 3, 2, None]
    assert list(events_of(tmp_path)) == [
        ("train/loss", 1, 4),
        ("train/loss", 2, 3),
        ("train/loss", 3, 2),
        ("valid/accuracy", 3, 50),
    ]


def test_the_settings_are_among_tensorboards_texts(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("optim: {lr: 0.000123}\n")
    with Watch(tmp_path, WatchSection(), steps=1, title="a run"):
        pass
    (path,) = tmp_path.glob("events.out.tfevents.*")
    assert b"lr: 0.000123" in path.read_bytes()


HISTORIES = {
    "one point": [train_record(10, loss=3.2, lr=1e-5)],
    "no number": [train_record(step, loss=math.nan, lr=0.0) for step in (10, 20)],
    "pretraining": [
        *(
            train_record(s, loss=900 / s, **{"loss/mlm": 600 / s, "loss/match": 300 / s}, lr=1e-4)
            for s in range(10, 500, 10)
        ),
        valid_record(490, loss=2.5, **{"loss/mlm": 2.0, "loss/match": 0.5}),
    ],
    "standing still": [train_record(s, loss=0.0, lr=0.0, examples_per_s=0.0) for s in (1, 2)],
    "evaluation alone": [valid_record(10, accuracy=math.nan), valid_record(20, accuracy=1.0)],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_curves_are_a_picture_of_1200_by_800(history: list[Record], tmp_path: Path) -> None:
    draw(tmp_path / "curves.png", history, "a run")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 800)
        assert np.asarray(image.convert("L")).min() < 50
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_best_evaluation_is_marked(tmp_path: Path) -> None:
    history = [valid_record(step, accuracy=float(50 + step)) for step in (10, 20, 30)]

    def red() -> int:
        draw(tmp_path / "curves.png", history, "a run")
        with Image.open(tmp_path / "curves.png") as image:
            return int((np.asarray(image.convert("RGB")) == (214, 39, 40)).all(-1).sum())

    assert red() == 0
    history[1]["best"] = True
    assert red() > 20


def test_a_smoothed_curve_keeps_its_level_and_loses_its_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 4000)
    even = smoothed(5 + noise)
    assert even.shape == (4000,)
    assert even[-1000:].mean() == pytest.approx((5 + noise)[-1000:].mean(), abs=0.05)
    assert even[200:].std() < 0.2
    np.testing.assert_allclose(smoothed(np.array([3.0, 4.0])), [3, 4])


def test_the_summary_says_what_the_run_was_and_what_came_out(tmp_path: Path) -> None:
    with Watch(tmp_path, PLAIN, steps=20, title="lxmert on vqa:train") as watch:
        for step, speed in ((10, 40.0), (20, 60.0)):
            watch.step(step, {"loss": 20 / step, "examples_per_s": speed, "waited": 0.01})
        watch.evaluated(10, {"accuracy": 71.25, "loss": 2.5}, best=True)
        watch.evaluated(20, {"accuracy": 70.5, "loss": 2.75})
        watch.close({"data": "vqa:train | vqa:val", "parameters": 209_124_098})
    text = (tmp_path / "summary.md").read_text()
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines()[4:])
    assert text.startswith("# lxmert on vqa:train\n")
    assert rows["data"] == r"vqa:train \| vqa:val"
    assert rows["parameters"] == "209,124,098"
    assert rows["best evaluation"] == "accuracy 71.25 at step 10"
    assert rows["evaluation accuracy, at the end"] == "70.5"
    assert rows["training loss, at the end"] == "1"
    assert rows["examples/s, median"] == "50"
    assert (tmp_path / "curves.png").is_file()


def test_a_run_that_is_broken_off_leaves_its_curves(tmp_path: Path) -> None:
    def train() -> None:
        with Watch(tmp_path, PLAIN, steps=20, title="a run") as watch:
            watch.step(10, {"loss": 2.0})
            raise FloatingPointError("the loss is nan")

    with pytest.raises(FloatingPointError):
        train()
    assert (tmp_path / "curves.png").is_file()
    assert not (tmp_path / "summary.md").exists()


def test_the_best_so_far_is_read_while_it_is_written(tmp_path: Path) -> None:
    assert last_best(tmp_path / "metrics.jsonl") is None
    with Watch(tmp_path, PLAIN, steps=20, title="a run") as watch:
        watch.evaluated(10, {"accuracy": 60.0}, best=True)
        watch.evaluated(20, {"accuracy": 50.0})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 30, "best": true')
        best = last_best(tmp_path / "metrics.jsonl")
    assert best is not None
    assert (best["step"], best["accuracy"]) == (10, 60)


def test_the_log_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    counted = progress.TrainingBar(1000, done=500)
    counted.epoch = 2.5
    with caplog.at_level(logging.INFO, "vlray"):
        for step in range(501, 504):
            counted.to(step, 2.0, 5e-5, 32)
    counted.close()
    line = caplog.messages[-1]
    assert line.startswith("step 503/1,000: loss 2, lr 5.00e-05, ")
    assert " examples/s, epoch 2.50, " in line
    assert line.endswith(" left")


def test_a_loss_without_a_number_does_not_stay_in_the_smoothed_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    counted = progress.TrainingBar(3)
    with caplog.at_level(logging.INFO, "vlray"):
        for step, loss in enumerate((1.0, math.nan, 7.0), start=1):
            counted.to(step, loss, 5e-5, 32)
    counted.close()
    assert [message.split(" loss ")[1].split(",")[0] for message in caplog.messages] == [
        "1", "nan", "7",
    ]  # fmt: skip


TERMINAL = """
import logging, sys, time
from contextlib import closing
from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run
from vlray.engine import progress
from vlray.engine.progress import TrainingBar

progress.SECONDS_BETWEEN_LINES = 0.0
with closing(open_run(LogsConfig(), "train")):
    counted = TrainingBar(3)
    counted.to(1, 2.0, 5e-5, 32)
    logging.getLogger("vlray.engine").info("evaluated")
    time.sleep(0.2)
    counted.to(2, 2.0, 5e-5, 32)
    counted.close()
    logging.getLogger("vlray.engine").info("after the bar")
"""


@pytest.mark.usefixtures("processes")
def test_on_a_terminal_a_bar_moves_below_the_messages(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    subprocess.run([sys.executable, "-c", TERMINAL], stderr=theirs, cwd=tmp_path, check=True)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    os.close(theirs)
    assert "loss 2, lr 5.00e-05" in shown
    assert "| step 2/3 [" in shown
    assert "\revaluated\r\n" in shown  # from the line's begin: the bar was taken off it
    assert "after the bar" in shown
    assert "step 1/3" not in shown
    (log,) = tmp_path.glob("runs/*/*/*.log")
    assert "step 1/3: loss 2" in log.read_text()


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_is_refused_with_the_way_to_get_it(
    name: str, package: str, tmp_path: Path
) -> None:
    if find_spec(name):
        pytest.skip(f"{package} is installed")
    options = WatchSection.model_validate({name: "somewhere"})
    with pytest.raises(ImportError, match=f"pip install {package}"):
        check(options)
    with pytest.raises(ImportError, match=f"watch.{name}"):
        Watch(tmp_path / "run", options, steps=1, title="a run")
    assert not (tmp_path / "run").exists()


def test_mlflow_keeps_the_figures_and_goes_on_with_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "tracked").as_uri()
    folder = tmp_path / "project" / "train-1"
    folder.mkdir(parents=True)
    (folder / "settings.yaml").write_text("optim: {lr: 0.5}\n")
    for step in (1, 2):
        with Watch(folder, WatchSection(mlflow=place), steps=2, title="a run") as watch:
            watch.step(step, {"loss": 1 / step})
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("project")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    assert run.data.params == {"optim.lr": "0.5"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1), (2, 0.5)]


def test_weights_and_biases_keeps_a_run_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "train-1"
    with Watch(folder, WatchSection(wandb="project"), steps=2, title="a run") as watch:
        watch.step(1, {"loss": 0.5})
    (kept,) = folder.glob("wandb/offline-run-*/run-train-1.wandb")
    assert b"train/loss" in kept.read_bytes()
