"""jobs/*.sh submit what they say, to a cluster that ``ray start`` began; extract.sh has its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.fixtures.tiny import MODEL, write_questions, write_regions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's, with regions and questions."""
    folder = tmp_path_factory.mktemp("user")
    write_regions(folder / "regions", images=40, dim=8)
    write_questions(folder / "vqa-rad", images=40, train=100, test=24)
    return folder


def data_of(folder: Path) -> list[str]:
    return [
        *("--data.annotations", f"vqa-rad={folder / 'vqa-rad'}"),
        *("--data.cache-dir", str(folder / "cache")),
    ]


def submit(
    head: dict[str, str], folder: Path, script: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "jobs" / script, *arguments],
        cwd=folder,
        env=head | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.thorough
def test_a_training_and_its_test_are_jobs_with_relative_places(
    head: dict[str, str], folder: Path
) -> None:
    flags = ["--model.name", MODEL, "--batch-size", "8", "--steps", "6"]
    flags += ["--no-tensorboard", "--holdout", "0.2", *data_of(folder)]
    done = submit(
        head,
        folder,
        *("train.sh", "vqa-rad:train", "regions", "model", *flags),
        **{"WORKERS": "2", "CPUS_PER_WORKER": "0.5"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "2 workers of Ray Train" in said
    assert "Ignoring upload" not in said  # a list of files that the client would print
    assert (folder / "model" / "best").is_dir()

    where = ["--output", str(folder / "tested"), "--model-name", MODEL, *data_of(folder)]
    done = submit(head, folder, "test.sh", "model", "vqa-rad:test", "regions", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exact match" in done.stdout
    assert json.loads((folder / "tested" / "metrics.json").read_text())
    assert len(list((folder / "runs" / "default").iterdir())) == 2


@pytest.mark.thorough
def test_gpus_that_no_node_has_are_refused_before_anything_starts(
    head: dict[str, str], folder: Path
) -> None:
    done = submit(head, folder, "test.sh", "model", "vqa-rad:test", GPUS="8")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "test.sh: 8 GPUs are requested, but no node of the cluster has more than 0; lower GPUS or "
        "add a node\n"
    )
    done = submit(head, folder, "train.sh", "vqa-rad:train", "regions", "never", USE_GPU="yes")
    assert done.returncode == 1
    assert "cluster.use_gpu is yes, but none of the cluster's 1 nodes has a GPU" in done.stdout
    assert not list((folder / "never").glob("*/*"))  # not a checkpoint


@pytest.mark.thorough
def test_a_search_is_a_job(head: dict[str, str], folder: Path, photos: Path) -> None:
    (folder / "my photos").symlink_to(photos)
    searched = ["--objective", "boxes", "--space", "score_thresh=0.1,0.5", "min_boxes=1,5"]
    done = submit(
        head, folder, *("tune.sh", "sweep", *searched, "--", "extract", "my photos"), CONCURRENT="1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = pq.read_table(folder / "sweep" / "trials.parquet").num_rows
    assert trials == 4 + 1  # and the defaults
    assert (folder / "sweep" / "best.yaml").is_file()


@pytest.mark.thorough
def test_a_pipeline_is_a_job(head: dict[str, str], folder: Path) -> None:
    data = {"annotations": {"vqa-rad": "$data/vqa-rad"}, "cache_dir": "$data/cache"}
    model = {"name": MODEL}
    training = {"steps": 6, "batch_size": 8}
    steps = {
        "model": {
            **{"command": "train", "corpus": "vqa-rad:train", "regions": ["$data/regions"]},
            **{"model": model, "training": training},
        },
        "scores": {
            **{"command": "test", "checkpoint": "$model", "corpus": "vqa-rad:test"},
            "model_name": MODEL,
        },
    }
    story = {"project": "rad", "shared": {"data": data}, "steps": steps}
    (folder / "story.yaml").write_text(yaml.safe_dump(story, sort_keys=False))
    arguments = ["pipeline.sh", "story.yaml", "story", "--values", f"data={folder}"]
    done = submit(head, folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "story" / "index.html").is_file()
    assert len(list((folder / "runs" / "rad").glob("test-*"))) == 1
