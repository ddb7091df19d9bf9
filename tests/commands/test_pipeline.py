"""Pipelines of real commands, each step a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deadlines import wait_until
from tests.fixtures.commands import Call
from tests.fixtures.tiny import MODEL, losses, read_order, write_questions, write_regions
from vlray import pipeline
from vlray.pipelines.state import Record, State

Run = Callable[..., tuple[str, str]]

TRUST = "--trust-code"  # the story names a class of the tests

STORY = """\
project: tiny
values: {{data: {data}, regions: {data}/regions}}
shared:
  data: {{annotations: {{vqa-rad: $data/vqa-rad}}, cache_dir: $data/cache}}
steps:
  model:
    command: train
    corpus: vqa-rad:train
    regions: $regions
    model: {{name: "{model}"}}
    validation: {{holdout: 0.2}}
    training: {{batch_size: 8, steps: 6, log_every: 1}}
    watch: {{tensorboard: false}}
  scores:
    command: test
    checkpoint: $model
    corpus: vqa-rad:test
    model_name: "{model}"
    resamples: 0
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small VQA-RAD with regions of its images, and a pipeline on it in story.yaml."""
    folder = tmp_path / "data"
    write_regions(folder / "regions", images=40, dim=8)
    write_questions(folder / "vqa-rad", images=40, train=100, test=24)
    Path("story.yaml").write_text(STORY.format(data=folder, model=MODEL))
    return folder


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "vlray.pipeline", *args, TRUST]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def run(call: Call, processes: None) -> Callable[..., tuple[str, str]]:
    """Run a pipeline; return its output and errors, and those of its steps."""

    def run_pipeline(*arguments: str, status: int = 0) -> tuple[str, str]:
        done = call(pipeline.main, *arguments, TRUST)
        assert done.status == status, f"{done.out}\n{done.err}"
        return done.out, done.err

    return run_pipeline


def records(folder: str = "pipelines/story") -> dict[str, Record]:
    return State.load(Path(folder)).records


def runs(command: str, project: str = "tiny") -> list[Path]:
    return sorted(Path("runs", project).glob(f"{command}-*"), key=os.path.getmtime)


def test_finished_steps_are_not_repeated_until_what_they_read_changes(data: Path, run: Run) -> None:
    out, err = run("story.yaml")
    assert "step 1 of 2, model: running vlray train (not run yet" in err
    assert "best exact match" in err  # the step's own words go through
    lines = out[out.index("step    command") :].splitlines()
    assert lines[1].split()[:3] == ["model", "train", "finished"]
    assert lines[2].split()[:3] == ["scores", "test", "finished"]
    metrics = json.loads(Path("pipelines/story/scores/metrics.json").read_text())
    value = metrics["figures"]["exact match"]["value"]
    assert f"exact match {value:.2f} (24 examples)" in lines[2]
    assert lines[-1] == "page: pipelines/story/index.html"
    assert f"{value:.2f}" in Path("pipelines/story/index.html").read_text()
    first = records()
    assert Path(first["model"].run) == runs("train")[0].resolve()

    out, err = run("story.yaml")
    assert "model: already done" in err
    assert "scores: already done" in err
    assert out.count("already done") == 2
    assert records() == first
    assert (len(runs("train")), len(runs("test")), len(runs("pipeline"))) == (1, 1, 2)

    write_questions(data / "more", images=40, train=90, test=24)
    shutil.copy(data / "more" / "trainset.json", data / "vqa-rad")
    out, _ = run("story.yaml", "--dry-run")
    assert f"model   train  to do: {data}/vqa-rad has changed\n" in out
    assert "    the old pipelines/story/model is renamed first\n" in out
    assert "python -m vlray.train --config pipelines/story/settings/model.yaml" in out
    assert records() == first
    _, err = run("story.yaml")
    assert f"scores: running vlray test ({data}/vqa-rad has changed" in err
    (kept,) = Path("pipelines/story").glob("model-before-*")
    assert (kept / "last").exists()
    assert [len(losses(run)) for run in runs("train")] == [6, 6]


def test_a_step_that_is_killed_midway_goes_on_in_the_next_run(data: Path, run: Run) -> None:
    model = f"model.model.architecture.kill_at={read_order(data)[37]}"  # of the fifth step
    once = f"model.model.architecture.once={data / 'killed'}"
    flags = ["--steps", model, "--steps", once, "--steps", "model.validation.holdout=0"]
    flags += ["--steps", "model.training.save_every=2"]
    out, err = run("story.yaml", *flags, status=1)
    assert "step model (vlray train) was killed by signal 9" in err
    assert "Run the same pipeline again to resume from this step" in err
    assert out.splitlines()[1].split()[:3] == ["model", "train", "failed"]
    assert out.splitlines()[2].split() == ["scores", "test", "not", "run"]
    assert records()["model"].status == "failed"
    _, err = run("story.yaml", *flags)
    assert "model: running vlray train (it failed" in err
    assert [record.status for record in records().values()] == ["finished", "finished"]
    assert "resuming after step 4" in err
    assert not list(Path("pipelines/story").glob("model-before-*"))


@pytest.mark.usefixtures("processes")
def test_a_pipeline_that_is_stopped_stops_its_step(data: Path, run: Run) -> None:
    flags = ["--steps", "model.training.steps=1000000", "--steps", "model.training.save_every=50"]
    process = start("story.yaml", *flags, "--only", "model")
    wait_until(Path("pipelines/story/model/last").exists, 100)
    _, err = run("story.yaml", *flags, status=2)
    assert "another pipeline is running in pipelines/story; wait for it" in err
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "with a checkpoint; run the same command again to resume" in err
    assert records()["model"].status == "stopped"
    assert json.loads((runs("pipeline")[0] / "status.json").read_text())["status"] == "stopped"


@pytest.mark.usefixtures("processes")
def test_a_killed_pipeline_takes_its_step_along(data: Path, run: Run) -> None:
    flags = ["--steps", "model.training.steps=1000000", "--steps", "model.training.save_every=50"]
    process = start("story.yaml", *flags)
    wait_until(Path("pipelines/story/model/last").exists, 100)
    process.kill()
    process.communicate()  # to the end of what the step says: it holds the pipe
    assert json.loads((runs("train")[0] / "status.json").read_text())["status"] == "stopped"
    out, _ = run("story.yaml", *flags, "--dry-run")
    assert "model   train  to do: it was interrupted\n" in out


def test_other_settings_are_refused_by_the_command_and_redo_begins_anew(
    data: Path, run: Run
) -> None:
    run("story.yaml", "--only", "model")
    other = ["--steps", "model.optim.lr=0.1"]
    _, err = run("story.yaml", *other, status=1)
    assert "optim.lr: 5e-05 there, 0.1 here" in err  # the command's own words
    assert "step model (vlray train) exited with status 2" in err
    assert "pass --redo model to rename that output and start over" in err
    _, err = run("story.yaml", *other, "--redo", "model", "--only", "model")
    assert "renamed the old pipelines/story/model to pipelines/story/model-before-" in err
    assert records()["model"].status == "finished"


def test_what_is_not_there_is_refused_before_anything_runs(data: Path, run: Run) -> None:
    (data / "vqa-rad" / "testset.json").unlink()
    _, err = run("story.yaml", "--values", "regions=nowhere", status=2)
    assert "step model: regions: nowhere does not exist, and no earlier step" in err
    assert "step scores: testset.json for vqa-rad:test was not found at" in err
    assert not Path("runs").exists()
    _, err = run("story.yaml", "--steps", "model.corpus=vqa-rad:tran", "--dry-run", status=2)
    assert "step model: unknown split of vqa-rad 'tran'; did you mean train?" in err


def test_an_extraction_goes_on_with_new_images_and_its_readers_follow(
    photos: Path, tmp_path: Path, grid_detector: str, ray_cluster: str, run: Run
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(photos / "chelsea.png", some)
    Path("look.yaml").write_text(f"""\
steps:
  regions:
    command: extract
    images: {{root: some}}
    detector: {{name: "{grid_detector}"}}
    cluster: {{address: "{ray_cluster}"}}
  exported: {{command: convert, source: $regions, output: made/regions.tsv}}
  gallery: {{command: view, output: $regions}}
""")
    run("look.yaml", "--output", "out", "--trust-code")
    first = records("out")
    assert first["regions"].result.startswith("1 image, 16 regions")
    exported = Path("made/regions.tsv").read_text()
    os.utime(some / "chelsea.png", (1, 1))
    _, err = run("look.yaml", "--output", "out", "--trust-code")
    assert "regions: running vlray extract (some has changed" in err
    assert "nothing to do: all images (1)" in err
    assert err.count("already done") == 2  # since the extraction wrote nothing
    shutil.copy(photos / "coffee.png", some)
    run("look.yaml", "--output", "out", "--trust-code")
    assert records("out")["regions"].result.startswith("1 image, 16 regions")
    assert Path("made/regions.tsv").read_text() != exported
    assert "coffee" in Path("made/regions.tsv").read_text()
    assert not list(Path("out").glob("regions-before-*"))
    assert Path("out/gallery/index.html").is_file()
