"""Two workers of Ray Train give what one gives, also when one of them is killed on the way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import ray

from tests.deadlines import wait_until
from tests.fixtures.growing import GrowingCluster
from tests.fixtures.tiny import losses
from vlray.cluster.capacity import Node
from vlray.config.training import WorkersSection
from vlray.engine.trainer import run_training
from vlray.engine.work import work
from vlray.engine.workers import RemoteStop, TrainControl, _allocate_when_up, allocate
from vlray.models.checkpoint import CheckpointInfo

TWO = {"workers": 2, "cpus_per_worker": 0.5}


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_is_killed_and_the_losses_are_those_of_one_worker(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Long questions weigh more, so the workers' shares of a batch have different weights.
    once = tmp_path / "killed"
    options = {"validation": {"holdout": 0.2}, "training": {"steps": 12, "save_every": 2}}
    one = make("one", model={"architecture": {"by_words": True}}, **options)
    kill = {"by_words": True, "kill_at": "50", "once": str(once)}
    two = make("two", model={"architecture": kill}, cluster=TWO, **options)
    expected = work(one, tmp_path / "run-1")
    with caplog.at_level(logging.INFO, logger="vlray"):
        progress = run_training(two, tmp_path / "run-2")
    assert once.exists()
    assert "resuming after step" in caplog.text
    assert progress is not None
    assert progress.ended
    assert losses(tmp_path / "run-2") == pytest.approx(losses(tmp_path / "run-1"), rel=1e-4)
    assert progress.best == pytest.approx(expected.best, rel=1e-4)
    ones, twos = (CheckpointInfo.read(Path(config.output, "last")) for config in (one, two))
    assert (ones.step, ones.epoch) == (twos.step, twos.epoch) == (12, 1.2)
    # Ray Train knows where each checkpoint is, and has no copy of it.
    (pointer,) = (tmp_path / "run-2" / "ray").glob("step-00000012/*")
    assert pointer.read_text() == f"{two.output}/step-00000012\n"


@pytest.mark.usefixtures("ray_cluster")
def test_what_would_happen_again_is_said_and_not_tried_again(make: Make, tmp_path: Path) -> None:
    config = make(model={"architecture": {"nan_at": "7"}}, training={"steps": 12}, cluster=TWO)
    (tmp_path / "run").mkdir()
    with pytest.raises(FloatingPointError, match=r"the loss answer of step \d+ is not a finite"):
        run_training(config, tmp_path / "run")


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_cluster")
def test_memory_that_is_short_is_told_of_the_workers_there_are(make: Make, tmp_path: Path) -> None:
    config = make(model={"architecture": {"memory_at": "7"}}, training={"steps": 12}, cluster=TWO)
    (tmp_path / "run").mkdir()
    with pytest.raises(MemoryError, match=r"a batch of 4 examples, on each of 2 workers, does not"):
        run_training(config, tmp_path / "run")


@pytest.mark.usefixtures("ray_cluster")
def test_workers_hear_that_they_are_to_stop() -> None:
    control = ray.remote(num_cpus=0)(TrainControl).remote()
    stop = RemoteStop(control)
    assert not stop.requested()
    ray.get(control.request_stop.remote())
    wait_until(stop.requested)


def test_workers_wait_for_the_gpus_of_a_cluster_that_grows() -> None:
    cluster = GrowingCluster([Node(0, 0)], [Node(0, 0), Node(32, 8)])
    assert _allocate_when_up(WorkersSection(), cluster) == (8, 1)
    assert cluster.requests == [({"CPU": 1, "GPU": 1}, 1), ({"CPU": 1, "GPU": 1}, 0)]
    cluster = GrowingCluster([Node(4, 0)])
    assert _allocate_when_up(WorkersSection(workers=3, use_gpu="no"), cluster) == (3, 0)
    with pytest.raises(ValueError, match=r"none of .* has a GPU; .*use-gpu no trains on CPUs"):
        _allocate_when_up(WorkersSection(wait=0.01), cluster)


def test_what_the_cluster_does_not_hold_is_refused() -> None:
    nodes = [Node(4, 0), Node(2, 0)]
    assert allocate(WorkersSection(), nodes) == (1, 0)
    assert allocate(WorkersSection(workers=6), nodes) == (6, 0)
    assert allocate(WorkersSection(), [Node(8, 2), Node(8, 4)]) == (6, 1)
    with pytest.raises(ValueError, match=r"2 workers with 3 CPUs .* 2 node.* 6 CPUs .* hold 1"):
        allocate(WorkersSection(workers=2, cpus_per_worker=3), nodes)
    with pytest.raises(ValueError, match=r"3 workers .* 1 GPUs .* 2 GPUs hold 2"):
        allocate(WorkersSection(workers=3), [Node(8, 2)])
    elastic = WorkersSection.model_validate({"workers": "2:8"})
    assert (elastic.min_workers, elastic.workers) == (2, 8)
    assert allocate(elastic, nodes) == (8, 0)  # six at first
    with pytest.raises(ValueError, match=r"2 workers .* hold 1; lower"):
        allocate(elastic, [Node(1, 0)])
    with pytest.raises(ValueError, match=r"min_workers=9 exceeds workers=8; pass MIN:MAX"):
        WorkersSection(workers=8, min_workers=9)
    with pytest.raises(ValueError, match="none of the cluster's 2 nodes has a GPU"):
        allocate(WorkersSection(use_gpu="yes"), nodes)
