"""A training loses one of two nodes and goes on with fewer workers; its losses stay."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deadlines import slowdown, wait_until
from tests.fixtures.tiny import losses
from vlray.engine.work import work
from vlray.models.checkpoint import CheckpointInfo


@pytest.mark.thorough
@pytest.mark.usefixtures("processes")
def test_a_node_is_lost_and_one_worker_ends_what_two_began(make: Make, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    once = tmp_path / "held"
    options = {"validation": {"holdout": 0.2}, "training": {"steps": 12, "save_every": 2}}
    alone = make("alone", model={"architecture": {"by_words": True}}, **options)
    work(alone, tmp_path / "run-alone")
    hold = {"by_words": True, "hold_at": "50", "once": str(once)}
    both = make("both", model={"architecture": hold}, **options)
    (tmp_path / "both.yaml").write_text(
        yaml.safe_dump(both.model_dump(mode="json", exclude={"config", "trust_code"}))
    )

    timeout = {"health_check_timeout_ms": int(1000 * slowdown())}
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000} | timeout
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    words = tmp_path / "words.txt"
    command = [
        "vlray.train",
        "--trust-code",
        "--config",
        str(tmp_path / "both.yaml"),
        "--workers",
        "1:2",
    ]
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.shutdown)
        node = cluster.add_node(num_cpus=1)
        log = stack.enter_context(words.open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--env.runs-dir", str(tmp_path / "runs")],
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_until(lambda: process.poll() is not None or once.exists(), 120)
        assert process.poll() is None, words.read_text()
        cluster.remove_node(node, allow_graceful=False)
        assert process.wait() == 0, words.read_text()
    assert "1 to 2 workers of Ray Train" in words.read_text()
    (run,) = (tmp_path / "runs").glob("*/train-*")
    assert losses(run) == pytest.approx(losses(tmp_path / "run-alone"), rel=1e-4)
    one, two = (CheckpointInfo.read(Path(config.output, "last")) for config in (alone, both))
    assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    # Ray Train knows where each checkpoint is, and has no copy of it.
    (pointer,) = (run / "ray").glob("step-00000012/*")
    assert pointer.read_text().strip() == f"{both.output}/step-00000012"
