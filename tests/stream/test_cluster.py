"""What the detectors get of a cluster, and what happens when a node of it is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deadlines import slowdown, wait_until
from vlray import extract
from vlray.cluster.capacity import Node, ResourcePlan, allocate, shortage
from vlray.config.cluster import ClusterSection

LAPTOP = Node(2, 0)
DGX = Node(64, 8)


def automatic(*nodes: Node, shards: int = 1000, **options: float) -> ResourcePlan:
    return allocate(ClusterSection.model_validate(options), nodes, shards)


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus", "gpus"),
    [
        ([Node(0.9, 0)], 1, 0.9, 0),
        ([Node(1, 0)], 1, 1, 0),
        ([LAPTOP], 2, 1, 0),
        ([Node(16, 0)], 16, 1, 0),
        ([LAPTOP, LAPTOP], 4, 1, 0),
        ([LAPTOP, Node(4, 0)], 6, 1, 0),
        ([Node(16, 1)], 1, 4, 1),  # the CPUs decode
        ([DGX], 8, 4, 1),
        ([DGX, DGX], 16, 4, 1),
        ([Node(4, 8)], 8, 0.5, 1),  # few CPUs to feed eight GPUs
        ([Node(0, 0), Node(4, 2)], 2, 2, 1),  # a head node that only leads
    ],
)
def test_as_many_actors_as_fit(nodes: list[Node], actors: int, cpus: float, gpus: float) -> None:
    plan = automatic(*nodes)
    assert plan == ResourcePlan(actors, cpus, gpus, 1)
    assert plan.decode_threads == (max(int(cpus), 1) if gpus else 1)
    assert shortage(plan, nodes) == ""


def test_fewer_shards_mean_fewer_actors_but_nothing_else() -> None:
    assert automatic(Node(16, 0), shards=3) == replace(automatic(Node(16, 0)), actors=3)


def test_fractions_of_a_gpu_and_of_a_cpu_are_counted_to_the_last() -> None:
    assert automatic(DGX, gpus_per_actor=0.5).actors == 16
    assert automatic(DGX, gpus_per_actor=0.3).actors == 24  # three on each GPU
    assert automatic(Node(64, 4), gpus_per_actor=0.6).actors == 4  # none on two halves
    assert automatic(Node(8, 1), gpus_per_actor=0.1, cpus_per_actor=0.1).actors == 10
    assert automatic(Node(8, 2), gpus_per_actor=0).actors == 8


def test_what_is_asked_for_is_taken_as_it_is() -> None:
    on_gpus = ClusterSection(cpus_per_actor=8)
    assert allocate(on_gpus, [DGX], 99) == ResourcePlan(8, 8, 1, 1)  # 8 threads decode
    asked = ClusterSection(actors=2, cpus_per_actor=3, gpus_per_actor=0, threads_per_actor=5)
    assert allocate(asked, [DGX], 2) == ResourcePlan(2, 3, 0, 5)
    assert allocate(asked, [DGX], 1) == ResourcePlan(1, 3, 0, 5)  # one shard


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        (
            [LAPTOP],
            {"actors": 2, "cpus_per_actor": 1.5},
            r"3 CPUs are requested \(2 actors x 1.5\), .* has 2;",
        ),
        ([DGX], {"actors": 9}, r"9 GPUs are requested \(9 actors x 1\), .* cluster has 8; lower"),
        ([LAPTOP], {"gpus_per_actor": 1}, r"1 GPUs are requested .* has 0;"),
        (
            [LAPTOP] * 3,
            {"cpus_per_actor": 4},
            r"1 actor with 4 CPUs .* only 0 fit on 3 nodes: all",
        ),
        (
            [Node(8, 1)] * 2,
            {"actors": 1, "gpus_per_actor": 2},
            r"1 actor with 4 CPUs and 2 GPUs each are requested, but only 0 fit on 2 nodes",
        ),
        (
            [Node(64, 4)],
            {"actors": 5, "gpus_per_actor": 0.6},
            r"but only 4 fit on 1 node: .*, a fraction of a GPU on one GPU;",
        ),
        ([DGX], {"gpus_per_actor": 1.5}, r"1.5 GPUs: Ray assigns a fraction of one GPU \(0.5\) or"),
        ([Node(0, 0)], {}, r"1 CPUs are requested .* has 0; .*or add nodes"),
    ],
)
def test_more_than_there_is_is_refused_with_both_numbers(
    nodes: list[Node], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        automatic(*nodes, **options)


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the address of the test's cluster from those who look for one on this machine."""
    folder = tempfile.mkdtemp(prefix="vc", dir="/tmp")  # sockets want a short path
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("ray_folder")
def test_a_run_that_loses_a_node_goes_on_and_gives_the_unbroken_output(
    ray_cluster: str, many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    hold = tmp_path / "hold"
    hold.mkdir()
    options = json.dumps({"hold": str(hold)})
    flags = ["--detector.name", grid_detector, "--detector.options", options]
    flags += ["--shard-size", "4", "--env.runs-dir", str(tmp_path / "runs")]
    extract.main([str(many_photos), str(tmp_path / "unbroken"), *flags])
    before = len(list(hold.iterdir()))
    (hold / "wait").touch()

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    # A node that is only slow to answer is not to be taken for a lost one.
    timeout = int(1000 * slowdown())
    quick |= {"health_check_timeout_ms": timeout, "health_check_failure_threshold": 3}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    words = tmp_path / "words.txt"
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.shutdown)
        node = cluster.add_node(num_cpus=2)
        log = stack.enter_context(words.open("wb"))
        # Four actors need both nodes, so that those of the lost one find no room.
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vlray.extract",
                str(many_photos),
                str(tmp_path / "out"),
                *flags,
                "-v",
            ],
            cwd=tmp_path,
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_until(
            lambda: process.poll() is not None or len(list(hold.iterdir())) == before + 5, 240
        )
        assert process.poll() is None, words.read_text()
        cluster.remove_node(node, allow_graceful=False)
        # Otherwise the actors of the lost node may get the CPUs of others that are already done.
        wait_until(
            lambda: process.poll() is not None or "has lost nodes" in words.read_text(),
            240,
            failure=words.read_text,
        )
        (hold / "wait").unlink()
        assert process.wait() == 0, words.read_text()
    said = words.read_text()
    assert "detectors: 4 x 1 CPUs" in said
    assert "4 CPUs are requested" in said
    assert "but the cluster has 2; continuing on the remaining nodes" in said
    assert "detectors: 2 x 1 CPUs" in said
    assert "60 images, 960 regions" in said
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")
