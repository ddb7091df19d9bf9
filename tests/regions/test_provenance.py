"""What made regions: of outputs as they are extracted, and of imported published features."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from vlray.config.convert import ConvertConfig
from vlray.formats.importing import import_file
from vlray.regions import parts
from vlray.regions.provenance import differences, provenance_of, warn_of_differences
from vlray.regions.schema import regions_schema
from vlray.regions.store import RegionStore, open_store

EXTRACTED: dict[str, Any] = {
    "schema_version": 1,
    "vlray_version": "0.1.0",
    "dataset": "coco",
    "images_root": "/photographs",
    "detector": {"name": "vg-caffe", "weights_sha256": "a" * 64},
    "settings": {
        "detector.name": "vg-caffe",
        "detector.min_boxes": 36,
        "detector.max_boxes": 36,
        "detector.nms_thresh": 0.5,
        "images.id_rule": "stem",
        "output.dtype": "float16",
        "output.shard_size": 32,
    },
}


def extracted(folder: Path, dtype: Any = "float16", **changes: Any) -> RegionStore:
    """Write what ``vlray extract`` writes, with one empty part, and open it."""
    about = EXTRACTED | {"settings": EXTRACTED["settings"] | changes.pop("settings", {})} | changes
    folder.mkdir()
    (folder / parts.SETTINGS).write_text(json.dumps(about))
    extra = {"detector_name": about["detector"]["name"], "labels_sha256": "b" * 64}
    schema = regions_schema(8, dtype, about | extra | {"conventions": {"plus_one": True}})
    path = folder / parts.REGIONS / parts.part_name(0)
    path.parent.mkdir()
    path.write_bytes(parts.encode_regions(schema.empty_table(), "zstd").to_pybytes())
    return open_store(str(folder), folder.parent / "cache")


def test_it_says_what_made_the_regions(tmp_path: Path) -> None:
    assert provenance_of(extracted(tmp_path / "out")) == {
        "detector": "vg-caffe",
        "weights_sha256": "a" * 64,
        "labels_sha256": "b" * 64,
        "feature_dim": 8,
        "feature_dtype": "float16",
        "settings": {
            "detector.name": "vg-caffe",
            "detector.min_boxes": 36,
            "detector.max_boxes": 36,
            "detector.nms_thresh": 0.5,
        },
        "conventions": {"plus_one": True},
    }


def test_the_same_regions_elsewhere_differ_in_nothing(tmp_path: Path) -> None:
    one = provenance_of(extracted(tmp_path / "one"))
    other = provenance_of(
        extracted(tmp_path / "other", images_root="/elsewhere", settings={"output.shard_size": 64})
    )
    assert differences(one, other) == []
    assert differences(json.loads(json.dumps(one)), other) == []  # as a checkpoint keeps it


def test_differences_are_named_as_a_user_knows_them(tmp_path: Path) -> None:
    one = provenance_of(extracted(tmp_path / "one"))
    other = provenance_of(
        extracted(
            tmp_path / "other",
            detector={"name": "lite", "weights_sha256": "c" * 64},
            settings={
                "detector.name": "lite",
                "detector.min_boxes": 10,
                "detector.max_boxes": 100,
                "detector.nms_thresh": 0.3,
            },
        )
    )
    assert differences(one, other) == [
        "detector: vg-caffe before, lite now",
        "weights: aaaaaaaaaaaa before, cccccccccccc now",
        "min_boxes/max_boxes: 36/36 before, 10/100 now",
        "nms_thresh: 0.5 before, 0.3 now",
    ]


def test_the_warning_names_the_output_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained_on = provenance_of(extracted(tmp_path / "one"))
    other = extracted(tmp_path / "other", settings={"detector.nms_thresh": 0.3})
    with caplog.at_level(logging.INFO, "vlray.regions.provenance"):
        assert warn_of_differences(trained_on, other, "checkpoint best")
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        "checkpoint best was made with regions that differ from those in other"
        in record.getMessage()
    )
    assert "nms_thresh: 0.5 before, 0.3 now" in record.getMessage()


def test_another_precision_alone_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained_on = provenance_of(extracted(tmp_path / "one"))
    other = extracted(tmp_path / "other", "float32", settings={"output.dtype": "float32"})
    with caplog.at_level(logging.INFO, "vlray.regions"):
        assert warn_of_differences(trained_on, other) == []
    assert "they differ only by rounding" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_imported_features_are_known_by_their_file(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures" / "butd" / "train2014_obj36.tsv"
    stores = {}
    for dtype in ("float16", "float32"):
        out = str(tmp_path / dtype)
        import_file(ConvertConfig(source=str(source), output=out, dtype=dtype))
        stores[dtype] = open_store(out, tmp_path / "cache")
    imported, wide = (provenance_of(store) for store in stores.values())
    assert imported["detector"] == "train2014_obj36.tsv"
    assert imported["format"]
    assert len(imported["source_sha256"]) == 64
    assert differences(imported, wide) == []
    mine = provenance_of(extracted(tmp_path / "mine"))
    found = differences(imported, mine)
    assert found[0].startswith("provenance: imported from train2014_obj36.tsv")
    assert "feature_dim: 2048 before, 8 now" in found
