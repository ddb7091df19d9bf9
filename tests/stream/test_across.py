"""Detection over several shards at once: the same files, with more images in a pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vlray.config.detector import DetectorSection
from vlray.detect.load import resize_of
from vlray.images.find import list_images
from vlray.stream.decode import DecodeShard
from vlray.stream.detect import DetectOptions
from vlray.stream.shard import ExtractShard
from vlray.stream.stages import Stages
from vlray.stream.write import WriteShard

SIZES = ((90, 120), (120, 90), (100, 130))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 30 images of three sizes, mixed, and one file that is none."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(30):
        pixels = generator.integers(0, 200, (*SIZES[number % 3], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "05.png").write_bytes(b"no image at all")
    return tmp_path / "photos"


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.parametrize("limit", [0, 1], ids=["much memory", "memory for one shard"])
@pytest.mark.parametrize("at_once", [1, 9])
def test_the_files_are_those_of_shards_by_themselves(
    at_once: int, limit: int, folder: Path, grid_detector: str, tmp_path: Path
) -> None:
    images = list_images(str(folder)).table.select(["image_id", "path", "split", "place"])
    # The brightest images raise an error, which becomes a failure of theirs alone.
    section = DetectorSection(name=grid_detector, batch_size=4, options={"poison": 99.8})

    def stages_to(out: Path) -> Stages:
        return Stages(
            DecodeShard(images, str(folder), 10**6, resize_of(section), threads=2),
            DetectOptions(section, "float16", str(out), {"schema_version": 1}, 1),
            WriteShard(str(out), "zstd", min_boxes=1),
        )

    tables = [
        pa.table({"shard": [n], "start": [4 * n], "count": [min(4, images.num_rows - 4 * n)]})
        for n in range(-(-images.num_rows // 4))
    ]
    alone = ExtractShard(stages_to(tmp_path / "alone"), "an actor")
    expected = [alone(table).to_pylist()[0] for table in tables]
    assert sum(row["failed"] for row in expected) > 1
    across = ExtractShard(replace(stages_to(tmp_path / "across"), is_across=True), "an actor")
    if limit:
        across._work._prefetch._limit = limit
    with ThreadPoolExecutor(at_once) as pool:
        found = [row.to_pylist()[0] for row in pool.map(across, tables)]
    assert found == expected
    assert contents(tmp_path / "across") == contents(tmp_path / "alone")
    assert across._work._prefetch.held == 0


def test_an_error_of_the_process_reaches_every_shard(
    folder: Path, grid_detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = list_images(str(folder)).table.select(["image_id", "path", "split", "place"])
    section = DetectorSection(name=grid_detector)
    stages = Stages(
        DecodeShard(images, str(folder), 10**6, resize_of(section)),
        DetectOptions(section, "float16", str(tmp_path / "out"), {"schema_version": 1}, 1),
        WriteShard(str(tmp_path / "out"), "zstd", min_boxes=1),
        is_across=True,
    )
    actor = ExtractShard(stages, "an actor")

    def fail(rows: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(actor._work._detect, "batch", fail)
    tables = [pa.table({"shard": [n], "start": [4 * n], "count": [4]}) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(actor, table) for table in tables]
        for call in calls:
            with pytest.raises(OSError, match="the disk is gone"):
                call.result()
