"""An image that ends the detector's process costs only itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vlray.config.cluster import ClusterSection
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection
from vlray.regions.output import open_output
from vlray.stream.block import DECODED, pack, unpack
from vlray.stream.detect import LAST_DEATHS, DetectOptions, DetectShard
from vlray.stream.nodes import STALL_S, stall_limit
from vlray.stream.run import DetectorError, extract

FATAL = f"{Path(__file__).with_name('fatal_detector.py')}:FatalDetector"
GOOD = ("a", "c", "d", "e")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small images; b is black."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate("abcde"):
        pixels = np.full((20, 30, 3), 0 if name == "b" else 40 * (index + 1), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def config_of(folder: Path, out: Path, options: dict[str, Any], **cluster: Any) -> ExtractConfig:
    return ExtractConfig(
        images=ImagesSection(root=str(folder)),
        detector=DetectorSection(name=FATAL, options=options),
        output=OutputSection(path=str(out)),
        cluster=ClusterSection(**cluster),
    )


def check(out: Path, reason: str) -> None:
    output = open_output(str(out))
    assert tuple(output.image_ids) == GOOD
    (failure,) = output.failures().to_pylist()
    assert (failure["image_id"], failure["stage"]) == ("b", "process")
    assert failure["error"] == "ProcessEnded"
    assert reason in failure["reason"]


@pytest.mark.usefixtures("processes")
def test_a_crash_in_a_run_without_ray_costs_one_image_and_is_not_repeated(
    folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"mode": "abort"}, address="none")
    result = extract(config)
    assert (result.images, result.failed, result.raised) == (4, 1, 0)
    check(tmp_path / "out", "SIGABRT")
    assert extract(config).images == 0
    # The rows are those of a run in which nothing crashes.
    whole = open_output(extract(config_of(folder, tmp_path / "whole", {}, address="none")).output)
    output = open_output(str(tmp_path / "out"))
    for image_id in GOOD:
        np.testing.assert_array_equal(output[image_id].visual_feats, whole[image_id].visual_feats)


def test_a_hang_on_ray_ends_two_actors_and_costs_one_image(
    ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"mode": "hang"}, image_timeout=1.5, actors=1)
    result = extract(config)
    assert (result.images, result.failed) == (4, 1)
    check(tmp_path / "out", "no result within 1.5 s")


def test_a_detector_that_cannot_be_loaded_ends_the_run_with_one_line(
    ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"broken": True}, actors=1)
    with pytest.raises(DetectorError) as caught:
        extract(config)
    assert str(caught.value) == (
        "the detector cannot be loaded: RuntimeError: no such weights: model.pth"
    )
    assert "fatal_detector.py" in str(caught.value.__cause__)  # the traceback, for the log


def test_a_shard_that_ends_processes_in_isolation_too_is_given_up(tmp_path: Path) -> None:
    options = DetectOptions(DetectorSection(name=FATAL), "float32", str(tmp_path), {}, 1)
    shard = DetectShard(options)
    for _ in range(LAST_DEATHS):
        shard._journal.begin("shard 7")
    image = {"image_id": "a", "path": "a.png", "split": "all", "image_height": 1}
    image |= {"image_width": 1, "pixels": b"abc", "shape": [1, 1, 3], "dtype": "uint8"}
    row = pack(7, images=pa.Table.from_pylist([image], schema=DECODED))
    _, tables = unpack(shard(row))
    assert tables["regions"].num_rows == 0
    assert tables["failures"]["reason"].to_pylist() == [
        "the detector's process ended 4 times on the images of this shard"
    ]
    _, tables = unpack(shard(row))  # the end of the work is recorded
    assert tables["regions"].num_rows == 1


def test_the_limit_without_progress_grows_with_the_time_limit_of_an_image() -> None:
    images, output = ImagesSection(root="photos"), OutputSection(path="out")
    for seconds, batch, limit in ((600, 0, 4800), (60, 32, 1920)):
        config = ExtractConfig(
            images=images,
            output=output,
            detector=DetectorSection(batch_size=batch),
            cluster=ClusterSection(image_timeout=seconds),
        )
        assert stall_limit(config) == STALL_S + limit
