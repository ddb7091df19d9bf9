"""The train command from its arguments to the checkpoint, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import VisualBertConfig, VisualBertForPreTraining

from tests.deadlines import wait_until
from tests.fixtures.tiny import MODEL, losses, read_order
from vlray import train
from vlray.config.train import TrainConfig
from vlray.config.training import OptimSection
from vlray.engine.optim import lr_factor
from vlray.engine.trainer import is_alone
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.store import locate
from vlray.models.weights import quiet


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # run folders go there


@pytest.fixture
def data(tiny_data: Path) -> Path:
    return tiny_data


def flags(
    data: Path,
    *more: str,
    corpus: str = "vqa-rad:train",
    regions: str = "regions",
    out: str = "out",
) -> list[str]:
    """Give the arguments of a training of six steps; of flags given twice the last one counts."""
    return [
        *(corpus, str(data / regions) if regions else "", out, "--model.name", MODEL),
        *("--batch-size", "8", "--steps", "6", "--log-every", "1", "--no-tensorboard"),
        *("--data.annotations", f"vqa-rad={data / 'vqa-rad'}"),
        *("--data.cache-dir", str(data / "cache"), *more),
    ]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    with pytest.raises(SystemExit) as caught:
        train.main(arguments)
    assert caught.value.code == status
    return capsys.readouterr().err


def only_run(where: Path) -> Path:
    (run,) = (where / "runs" / "default").glob("train-*")
    return run


def test_a_training_says_what_came_out_and_has_nothing_to_do_the_second_time(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = flags(data, "--holdout", "0.2", "--evaluate-every", "3")
    train.main(arguments)
    said = capsys.readouterr().err
    assert "6 steps of 8 examples, 0.6 epochs" in said
    assert "best exact match" in said
    assert "test it: vlray test out DATASET:SPLIT" in said
    run = only_run(tmp_path)
    assert len(losses(run)) == 6
    assert {"settings.yaml", "curves.png", "summary.md"} <= {path.name for path in run.iterdir()}
    assert locate("out", "last").name == "step-00000006"
    train.main([*arguments, "--log-every", "2"])
    assert "nothing to do: the training in" in capsys.readouterr().err


def test_a_training_without_a_place_is_among_the_models_of_its_project(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(flags(data, "--project", "rad", out=""))
    assert locate("models/rad/vqa-rad-train", "last").name == "step-00000006"
    assert "the model is in models/rad/vqa-rad-train/last" in capsys.readouterr().err


@pytest.mark.usefixtures("processes")
def test_a_training_that_is_killed_goes_on_to_the_same_end(data: Path, tmp_path: Path) -> None:
    dropout = ("--model.architecture", "dropout=0.1", "--save-every", "2")
    kill = ("--model.architecture", f"once={tmp_path / 'killed'}", "--model.architecture")
    example = read_order(data)[37]  # of the fifth step
    killed = flags(data, *dropout, *kill, f"kill_at={example}")
    first = start(killed)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert locate("out", "last").name == "step-00000004"
    (tmp_path / "out" / ".tmp-left").mkdir()  # as a kill during a checkpoint leaves it
    train.main(killed)
    run = max((tmp_path / "runs" / "default").glob("train-*"), key=os.path.getmtime)
    train.main(flags(data, *dropout, "--project", "other", out="whole"))
    (whole,) = (tmp_path / "runs" / "other").glob("train-*")
    assert losses(run) == losses(whole)
    one, other = (load_file(locate(out, "last") / "tiny.safetensors") for out in ("out", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        ".lock", "best", "last", "step-00000006",
    ]  # fmt: skip


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_leaves_a_checkpoint(
    data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(flags(data, "--steps", "1000000", "--save-every", "50"))
    wait_until((tmp_path / "out" / "last").exists, 100)
    with pytest.raises(SystemExit):
        train.main(flags(data, "--steps", "1000000"))  # while the other one is at work
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    state = json.loads((locate("out", "last") / "training.json").read_text())
    assert said.splitlines()[-1] == (
        f"stopped after step {state['progress']['step']:,} of 1,000,000, with a checkpoint; "
        "run the same command again to resume"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--objective", "choices"], "objective choices needs choices, but the labels of vqa-rad"),
        (["--validation.valid", "vqa-rad:dev"], "dev"),
        (
            ["--accumulate", "3"],
            "batch_size=8 cannot be divided into accumulate=3 batches for 1 worker",
        ),
        (["--batch-size", "128"], "100 examples do not fill a single batch of 128"),
        (["--model.freeze", "nothing.*"], r"model.freeze nothing\.\* matches none"),
        (["--model.name", "lxmret"], "did you mean 'lxmert'"),
        (["--mlflow", "file:/tmp/x"], "mlflow-skinny, which is not installed"),
        (["--loader.pretraining.token-rate", "0.1"], "the objective labels masks nothing"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_named_before_anything_is_computed(
    data: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert re.search(said, refusal(flags(data, *more), capsys))
    assert not Path("out", "last").exists()


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"corpus": ""}, "DATA is missing"),
        ({"regions": ""}, "REGIONS is missing"),
        ({"corpus": "vqa-rad:tran"}, "unknown split of vqa-rad 'tran'; did you mean train?"),
        ({"corpus": "refcoco:train"}, "refcoco"),
        ({"regions": "nowhere"}, "there are no regions in"),
        ({"regions": "others"}, "none of the 100 examples of vqa-rad:train has regions"),
    ],
    ids=str,
)
def test_places_where_nothing_fitting_is_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str], places: dict[str, str], said: str
) -> None:
    assert said in refusal(flags(data, **places), capsys)


def test_another_training_in_the_same_place_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(flags(data))
    said = refusal(flags(data, "--lr", "0.1", "--steps", "9", "--precision", "bf16"), capsys)
    assert "  optim.lr: 5e-05 there, 0.1 here\n  training.steps: 6 there, 9 here\nPass" in said
    assert "precision" not in said
    train.main(flags(data, "--weights", "out", "--lr", "0.1", "--new-lr", "0.2", out="next"))
    assert "size mismatch" in refusal(
        flags(data, "--weights", "out", regions="wide", out="wide"), capsys, status=1
    )


def test_a_training_does_not_write_into_regions(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(flags(data, out=str(data / "regions")), capsys)
    assert "has regions (vlray.json); pass another OUT for the training" in said


def test_an_unfinished_training_may_get_more_steps(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(flags(data))
    state = locate("out", "last") / "training.json"
    values = json.loads(state.read_text())
    values["progress"] |= {"ended": False, "steps": 12}
    values["settings"]["training"]["steps"] = 12
    state.write_text(json.dumps(values))
    (state.parent / "checksums.json").unlink()  # as in a checkpoint of an earlier version
    said = refusal(flags(data, "--steps", "5"), capsys)
    assert "5 steps were requested, but 6 of 12 are completed" in said
    before = set((tmp_path / "runs" / "default").iterdir())
    train.main(flags(data, "--steps", "8"))
    assert "8 steps instead of 12; from here on, the learning rate" in capsys.readouterr().err
    (run,) = set((tmp_path / "runs" / "default").iterdir()) - before
    assert locate("out", "last").name == "step-00000008"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["lr"] for line in lines if "lr" in line}
    assert rates[8] == pytest.approx(5e-05 * lr_factor(7, 8, OptimSection()))


def test_a_running_ray_does_not_capture_a_training(monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("vlray.cluster.connection.running_here", lambda: True)
    assert is_alone(TrainConfig(cluster={"use_gpu": "no"}))
    assert not is_alone(TrainConfig(cluster={"use_gpu": "no", "address": "auto"}))
    assert not is_alone(TrainConfig(cluster={"use_gpu": "no", "workers": 2}))


def test_too_little_memory_is_explained(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = read_order(data)[3]
    more = ["--model.architecture", f"memory_at={example}", "--accumulate", "2"]
    said = refusal(flags(data, *more), capsys, status=1)
    assert "a batch of 4 examples, on each of 1 worker, does not fit into the memory (CUDA" in said
    assert "Pass --accumulate 4" in said


def test_a_model_that_is_not_named_is_that_of_its_weights_and_goes_on_without_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = VisualBertConfig(**sizes, num_hidden_layers=1, visual_embedding_dim=8)
    with quiet():
        VisualBertForPreTraining(config).save_pretrained(tmp_path / "weights")
    unnamed = ("--model.name", "auto", "--loss", "model")
    train.main(flags(data, *unnamed, "--weights", "weights"))
    said = capsys.readouterr().err
    assert "model.name is visualbert, detected from the weights weights" in said
    assert "loss: cross-entropy of the best label" in said
    kept = CheckpointInfo.read(locate("out", "last"))
    assert (kept.model.name, kept.most_frequent) == ("visualbert", "no")
    train.main(flags(data, *unnamed))
    assert "nothing to do: the training in" in capsys.readouterr().err
    train.main(flags(data, *unnamed, "--weights", "out", "--steps", "1", out="next"))
    assert "model.name is visualbert, detected from the weights out" in capsys.readouterr().err
    named = ("--weights", "out", "--model.name", "lxmert")
    said = refusal(flags(data, *named, out="other"), capsys)
    assert "is of the kind 'visual_bert', but model.name=lxmert starts from 'lxmert'" in said


def start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlray.train", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
