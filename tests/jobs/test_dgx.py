"""configs/extract/dgx.yaml fits the machine that it is for, as jobs/README.md counts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.cluster.capacity import Node, ResourcePlan, allocate
from vlray.config.extract import ExtractConfig
from vlray.settings.reader import from_cli

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "configs" / "extract" / "dgx.yaml"


def config() -> ExtractConfig:
    return from_cli(ExtractConfig, ["photos", "out", "--config", str(SETTINGS)])


@pytest.mark.parametrize("cpus", [224, 256], ids=["DGX H100", "DGX A100"])
def test_a_dgx_holds_a_detector_on_each_gpu(cpus: int) -> None:
    plan = allocate(config().cluster, [Node(cpus, 8)], shards=10_000)
    assert plan == ResourcePlan(8, 8.0, 1, 1)


def test_half_a_dgx_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"8 GPUs are requested .* but the cluster has 4"):
        allocate(config().cluster, [Node(128, 4)], shards=10_000)


def test_the_readme_counts_with_the_settings_own_numbers() -> None:
    settings, text = config(), (ROOT / "jobs" / "README.md").read_text()
    cluster = settings.cluster
    assert f"{cluster.actors} actors x {cluster.cpus_per_actor:g} CPUs" in text
    assert f"{settings.output.shard_size} images x 5.9 MB" in text
