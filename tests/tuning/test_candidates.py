"""Proposals that are collected by an extraction, and regions that are selected from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.collected import OWN, config, directly, read, same_regions
from vlray.config.output import OutputSection
from vlray.detect.selection.reselect import LIGHT
from vlray.regions.output import open_output
from vlray.stream.run import extract
from vlray.tuning.collect import collect

STRICT = {"score_thresh": 0.35, "min_boxes": 3, "max_boxes": 20, "nms_thresh": 0.4}


@pytest.fixture(scope="module")
def small_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs at a fifth of their size, and a file that is none."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        image = Image.open(photos / name).convert("RGB")
        image.reduce(4).save(folder / name)
    (folder / "broken.png").write_text("no image at all")
    return folder


def test_regions_are_those_of_an_extraction_and_so_is_their_output(
    small_photos: Path, tmp_path: Path, ray_cluster: str
) -> None:
    settings = config(small_photos, tmp_path / "direct", min_size=160, max_size=260)
    candidates = collect(settings, tmp_path / "collected", with_feats=True)
    assert len(candidates.image_ids) == 3
    strict = settings.model_copy(update={"detector": settings.detector.model_copy(update=STRICT)})
    strict = strict.model_copy(
        update={"output": OutputSection(path=str(tmp_path / "strict"), shard_size=2)}
    )
    for one in (settings, strict):
        direct = directly(one)
        found = candidates.select(one.detector)
        same_regions(candidates, found, direct)
        written = tmp_path / f"written {Path(one.output.path).name}"
        candidates.write(found, one, str(written))
        table = read(str(written))
        assert table.equals(direct)  # vectors and all
        assert table.schema.metadata == direct.schema.metadata
        for name in ("vlray.json", "labels.json"):
            assert (written / name).read_bytes() == (Path(one.output.path) / name).read_bytes()
        failed = open_output(str(written)).failures()
        assert failed.equals(open_output(one.output.path).failures())
        assert failed["image_id"].to_pylist() == ["broken"]
        # It goes on as if it had been extracted: nothing is left to do.
        again = one.model_copy(
            update={"output": one.output.model_copy(update={"path": str(written)})}
        )
        assert extract(again).images == 0
    shards = sorted((tmp_path / "written strict" / "regions").iterdir())
    shards[0].unlink()
    kept = shards[1].stat().st_mtime_ns
    candidates.write(found, strict, str(written))  # what is there stays
    assert read(str(written)).equals(direct)
    assert shards[1].stat().st_mtime_ns == kept
    with pytest.raises(ValueError, match="made with different settings"):
        candidates.write(found, settings, str(written))


@pytest.mark.thorough
def test_a_collection_is_opened_again_and_travels_to_other_processes(
    small_photos: Path, tmp_path: Path, ray_cluster: str
) -> None:
    settings = config(small_photos, "-", name=f"{OWN}:Bright")
    first = collect(settings, tmp_path, with_feats=False)
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    again = collect(settings, tmp_path, with_feats=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == parts
    there = pickle.loads(pickle.dumps(again))
    numbers = set()
    for values in ({}, STRICT, {"max_boxes": 100, "min_boxes": 0, "score_thresh": 0.5}):
        options = settings.detector.model_copy(update=values)
        direct = config(
            small_photos, tmp_path / f"direct {len(numbers)}", **{"name": f"{OWN}:Bright", **values}
        )
        same_regions(there, there.select(options), directly(direct))
        np.testing.assert_array_equal(first.select(options).rows, there.select(options).rows)
        numbers.add(len(there.select(options)))
    assert len(numbers) == 3
    with pytest.raises(ValueError, match="has no vectors"):
        there.write(there.select(settings.detector), settings, str(tmp_path / "out"))
    with pytest.raises(ValueError, match="min_size=0, not 200"):
        there.select(settings.detector.model_copy(update={"min_size": 200}))


def test_a_detector_that_selects_otherwise_is_refused(
    small_photos: Path, tmp_path: Path, ray_cluster: str
) -> None:
    settings = config(small_photos, "-", name=f"{OWN}:Willful")
    with pytest.raises(ValueError, match=r"does not select as vlray does.*search other options"):
        collect(settings, tmp_path, with_feats=False)


def test_a_detector_without_scores_is_refused(
    small_photos: Path, tmp_path: Path, ray_cluster: str
) -> None:
    settings = config(small_photos, "-", name=f"{OWN}:Nameless")
    with pytest.raises(ValueError, match="no classes with probabilities"):
        collect(settings, tmp_path, with_feats=False)


def test_what_selects_nothing_is_refused_at_once(small_photos: Path, tmp_path: Path) -> None:
    settings = config(small_photos, "-", features="grid")
    with pytest.raises(ValueError, match="features=grid turns off the selection"):
        collect(settings, tmp_path, with_feats=False)
    boxes = config(small_photos, "-").model_copy(update={"boxes": "b.json"})
    with pytest.raises(ValueError, match=r"boxes=b\.json turns off the selection"):
        collect(boxes, tmp_path, with_feats=False)
    assert not list(tmp_path.iterdir())
    assert set(LIGHT) == {"score_thresh", "nms_thresh", "min_boxes", "max_boxes"}
