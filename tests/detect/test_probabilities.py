"""Probabilities of several classes and attributes, and tags, in batches and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skimage
from pydantic import ValidationError
from torch import Tensor

import vlray
from tests.detect.vinvl_weights import write_vinvl
from vlray.config.detector import DetectorSection
from vlray.detect import notebook
from vlray.detect.protocol import DetectorInfo, wide_columns
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import from_table, regions_schema, to_table

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="module")
def vinvl(
    vinvl_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Options of a narrow VinVL detector on small images."""
    folder = tmp_path_factory.mktemp("vinvl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        weights = write_vinvl(vinvl_state, folder / "vinvl.pth")
        yield {"weights": str(weights), "min_size": 120, "max_size": 160, "max_boxes": 6}
    notebook._load.cache_clear()


@pytest.mark.parametrize("name", ["lite", "vinvl"])
def test_the_best_of_all_classes_is_the_regions_class(name: str, vinvl: dict[str, Any]) -> None:
    options = vinvl | {"nms_filter": 2} if name == "vinvl" else {"max_boxes": 6}
    every = vlray.find_regions(PHOTOGRAPH, name, class_probs="all", **options)
    best = vlray.find_regions(PHOTOGRAPH, name, class_probs="top5", **options)
    again = vlray.find_regions(PHOTOGRAPH, name, class_probs="all", boxes=every.boxes, **options)
    for regions in (every, again):
        assert regions.cls_probs is not None
        assert regions.cls_probs.dtype == np.float16
        assert regions.obj_probs is not None
        # Ties of float16 have several best classes.
        own = regions.cls_probs[np.arange(len(regions.cls_probs)), regions.obj_ids]
        np.testing.assert_array_equal(own, regions.cls_probs.max(axis=1))
        np.testing.assert_array_equal(own, regions.obj_probs.astype(np.float16))
    assert best.top_obj_ids is not None
    np.testing.assert_array_equal(best.top_obj_ids[:, 0], best.obj_ids)
    np.testing.assert_array_equal(best.top_obj_probs, np.sort(every.cls_probs)[:, :-6:-1])


def test_vinvl_gives_up_to_16_attributes_above_its_threshold(vinvl: dict[str, Any]) -> None:
    regions = vlray.find_regions(PHOTOGRAPH, "vinvl", max_attributes=16, **vinvl)
    probs = regions.top_attr_probs
    assert probs is not None
    assert probs.shape[1] == 16
    assert ((probs > 0.05) | (probs == 0)).all()
    assert (probs[:, :-1] >= probs[:, 1:]).all()
    np.testing.assert_array_equal(probs[:, 0], regions.attr_probs.astype(np.float16))


def test_an_output_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / PHOTOGRAPH.name).write_bytes(PHOTOGRAPH.read_bytes())
    options: dict[str, Any] = {"max_boxes": 4, "class_probs": "all", "tags": True}
    result = vlray.extract(images, tmp_path / "out", cluster={"address": "none"}, **options)
    output = vlray.open_output(result.output)
    table = output.read(["chelsea"])
    assert table.schema.field("cls_probs").type == pa.list_(pa.list_(pa.float16(), 80))
    regions = output["chelsea"]
    names = [output.obj_names[index] for index in regions.obj_ids]
    assert table["tags"].to_pylist() == [" ".join(names)]
    assert regions.cls_probs.shape == (4, 80)


def test_columns_survive_a_table_and_images_without_regions() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3) / 10
    batch = RegionBatch(
        np.array([[9, 9], [9, 9]], np.int32),
        np.array([0, 2], np.int32),
        np.zeros((2, 4), np.float32),
        np.zeros((2, 0), np.float32),
        top_obj_ids=np.array([[4, 2, 0], [1, 0, 2]], np.int32),
        top_obj_probs=values.astype(np.float16),
    )
    schema = regions_schema(0, wide={"top_obj_ids": 3, "top_obj_probs": 3})
    back = from_table(to_table(batch, ["a", "b"], ["", ""], ["", ""], schema))
    np.testing.assert_array_equal(back.top_obj_ids, batch.top_obj_ids)
    np.testing.assert_array_equal(back.top_obj_probs, batch.top_obj_probs)
    assert back.cls_probs is None
    other = regions_schema(0, wide={"cls_probs": 3})
    with pytest.raises(ValueError, match="cls_probs is missing, but the table expects"):
        to_table(batch, ["a", "b"], ["", ""], ["", ""], other)


def test_options_without_effect_are_refused() -> None:
    with pytest.raises(ValidationError, match="grid cells have no classes"):
        DetectorSection(name="vinvl", features="grid", class_probs="all")
    with pytest.raises(ValueError, match="max_attributes is set, but mine has no attributes"):
        wide_columns(DetectorInfo("mine", 3, ("a",)), DetectorSection(max_attributes=2))
