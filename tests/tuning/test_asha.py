"""A search over trainings on two nodes, with early stopping, measures what a training gives."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.tiny import MODEL
from vlray import train


def best_of(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return max(line["exact match"] for line in lines if line["kind"] == "valid")


@pytest.mark.thorough
@pytest.mark.usefixtures("processes")
def test_trials_on_two_nodes_have_the_figures_of_trainings_by_themselves(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.chdir(tmp_path)
    training = ["vqa-rad:train", str(tiny_data / "regions"), "--model.name", MODEL]
    training += ["--batch-size", "8", "--steps", "24", "--evaluate-every", "3", "--holdout", "0.3"]
    training += ["--data.annotations", f"vqa-rad={tiny_data / 'vqa-rad'}", "--no-tensorboard"]
    training += ["--data.cache-dir", str(tiny_data / "cache")]
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    search = ["vlray.tune", "sweep", "--scheduler", "asha"]
    search += ["--space", "lr=1e-6,1e-5,1e-4,1e-3,1e-2", "--cluster.address", cluster.address]
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.shutdown)
        cluster.add_node(num_cpus=1)
        done = subprocess.run(
            [sys.executable, "-m", *search, "--", "train", *training],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = [json.loads(line) for line in Path("sweep", "trials.jsonl").read_text().splitlines()]
    assert len(trials) == 6  # with the defaults
    assert {trial["state"] for trial in trials} == {"finished", "stopped"}
    # The defaults are never stopped.
    (trial,) = [trial for trial in trials if not trial["setting"]]
    train.main([*training, "--output", "alone", "--env.runs-dir", "alone-runs"])
    (run,) = Path("alone-runs").glob("*/train-*")
    assert trial["figures"]["exact match"] == pytest.approx(best_of(run))
