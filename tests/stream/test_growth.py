"""Extraction on a cluster that starts its nodes on demand, and loses one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadlines import wait_until
from tests.fixtures.autoscaler import OnDemandCluster
from vlray import extract


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.thorough
def test_a_cluster_without_nodes_starts_two_and_the_loss_of_one_changes_no_byte(
    on_demand_cluster: OnDemandCluster, many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    flags = ["--detector.name", grid_detector, "--shard-size", "4", "--detector.device", "cpu"]
    flags += ["--detector.options", json.dumps({"hold": str(hold)})]
    flags += ["--env.runs-dir", str(tmp_path / "runs")]
    extract.main([str(many_photos), str(tmp_path / "unbroken"), *flags, "--cluster.address=none"])

    (hold / "wait").touch()
    before = len(list(hold.iterdir()))
    words = tmp_path / "words.txt"
    command = ["vlray.extract", str(many_photos), str(tmp_path / "out"), *flags, "-v"]
    with words.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=os.environ | {"RAY_ADDRESS": on_demand_cluster.address},
            stdout=log,
            stderr=log,
        )
    try:
        # Two detectors fit on a node: the third one works on the second node.
        wait_until(
            lambda: process.poll() is not None or len(list(hold.iterdir())) >= before + 3,
            120,
            failure=words.read_text,
        )
        assert process.poll() is None, words.read_text()
        on_demand_cluster.kill_worker(2)
        (hold / "wait").unlink()
        assert process.wait() == 0, words.read_text()
    finally:
        process.kill()
        process.wait()
    lines = words.read_text()
    assert "waiting for nodes: 1 CPUs are requested" in lines
    assert "60 images, 960 regions" in lines
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")
