"""The published features in every binary form become the rows that their own TSV becomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.formats import written
from tests.formats.written import Image
from vlray.config.convert import ConvertConfig
from vlray.formats.importing import import_file
from vlray.formats.readers.protocol import RawRegions
from vlray.formats.readers.tsv import Tsv10Reader
from vlray.regions.output import open_output
from vlray.regions.schema import from_table


def each(write: Callable[[Path, Image], Any]) -> Callable[[Path, list[Image]], Path]:
    """Write one file per image into a folder."""

    def write_all(path: Path, images: list[Image]) -> Path:
        path.mkdir()
        for image in images:
            write(path, image)
        return path

    return write_all


def database(item: Callable[[Image], dict[str, Any]]) -> Callable[[Path, list[Image]], Path]:
    """Write an LMDB of one form of values."""
    return lambda path, images: written.save_lmdb(path, {i.image_id: item(i) for i in images})


def hugging_face(path: Path, images: list[Image]) -> Path:
    vector, matrix = pa.list_(pa.float32()), pa.list_(pa.list_(pa.float32()))
    types = {"boxes": matrix, "roi_features": matrix, "img_id": None, "preds_per_image": None}
    columns = written.hf_columns(images)
    table = {name: pa.array(values, types.get(name, vector)) for name, values in columns.items()}
    return written.save_stream(path, pa.table(table))


FORMS: dict[str, tuple[Callable[[Path, list[Image]], Path], str]] = {
    "npz": (each(written.npz_caffe), "oOaA"),
    "npz-d2": (each(written.npz_d2), "oO"),
    "npz-mcan": (each(written.npz_mcan), ""),
    "npy-vmb": (each(lambda p, i: written.save_npy(p, i, written.mmf_vmb(i))), "oO"),
    "npy-frcnn": (each(lambda p, i: written.save_npy(p, i, written.mmf_frcnn(i))), "oO"),
    "lmdb-tsv": (database(written.volta_of_tsv), "oOaA"),
    "lmdb-hdf5": (database(written.volta_of_hdf5), "oOaA"),
    "hdf5": (written.hdf5_volta, "oOaA"),
    "butd-hdf5": (lambda p, i: written.hdf5_butd(p.with_suffix(".hdf5"), i, False), ""),
    "hdf5-ban": (lambda p, i: written.hdf5_butd(p.with_suffix(".hdf5"), i, True), ""),
    "arrow-hf": (hugging_face, "oOaA"),
    "arrow-vltk": (lambda p, i: written.save_stream(p, written.vltk_table(i)), "oa"),
}
NAMES = dict(zip("oOaA", ("obj_ids", "obj_probs", "attr_ids", "attr_probs"), strict=True))


@pytest.fixture(scope="module")
def images(shared: Path) -> list[Image]:
    """Three of the ten published images: of one height, of another, and upright."""
    found = [got for _, got in Tsv10Reader(shared / "fixtures/butd/train2014_obj36.tsv").read()]
    images = []
    for got in [*found[:2], found[8]]:
        assert isinstance(got, RawRegions)
        assert got.image_hw is not None
        assert got.obj_ids is not None
        assert got.obj_probs is not None
        assert got.attr_ids is not None
        assert got.attr_probs is not None
        height, width = (int(side) for side in got.image_hw)
        arrays = (got.boxes, got.visual_feats, got.obj_ids, got.obj_probs)
        more = (got.attr_ids, got.attr_probs)
        copies = [np.array(array) for array in (*arrays, *more)]
        images.append(Image(got.image_id, height, width, *copies))
    return images


@pytest.mark.parametrize("form", FORMS)
def test_the_published_features_are_the_same_in_every_form(
    form: str, images: list[Image], shared: Path, tmp_path: Path
) -> None:
    write, labels = FORMS[form]
    config = ConvertConfig(
        source=str(write(tmp_path / "source", images)),
        output=str(tmp_path / "out"),
        images=str(shared / "fixtures/butd"),
        id_rule="coco",
        trust_pickle=True,
    )
    assert import_file(config).failed == 0
    output = open_output(config.output)
    assert set(output.image_ids) == {"132417", "573195", "131486"}
    for image in images:
        row = from_table(output.read([str(int(image.image_id[-12:]))]))
        assert row.image_hw.tolist() == [[image.height, image.width]]
        np.testing.assert_allclose(row.boxes, image.boxes, atol=1e-4)
        np.testing.assert_array_equal(row.visual_feats, image.features.astype(np.float16))
        for letter, name in NAMES.items():
            there = getattr(image, name) if letter in labels else None
            np.testing.assert_array_equal(getattr(row, name), there)


def test_what_was_cut_off_is_a_failure_with_its_reason(images: list[Image], tmp_path: Path) -> None:
    table = written.vltk_table(images).replace_schema_metadata(None)
    source = written.save_stream(tmp_path / "train.arrow", table)
    os.truncate(source, source.stat().st_size - 1000)
    sizes = tmp_path / "sizes.csv"
    rows = [f"{image.image_id},{image.height},{image.width}" for image in images]
    sizes.write_text("\n".join(["id,height,width", *rows]))
    out = str(tmp_path / "out")
    config = ConvertConfig(source=str(source), output=out, sizes=str(sizes), id_rule="coco")
    assert import_file(config).images == 2
    (failure,) = open_output(out).failures().to_pylist()
    assert (failure["image_id"], failure["error"]) == ("rows from 2 on", "CutOff")
    assert "truncated or damaged at byte" in failure["reason"]
