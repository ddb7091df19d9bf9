"""Every form that is written: its users' documented way of reading it, and the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.fixtures.made_up import DIM, image, write_output
from tests.formats import consumers
from tests.formats.headers import header
from vlray.config.convert import ConvertConfig
from vlray.config.formats import FORMATS, WRITTEN
from vlray.formats import exporting
from vlray.formats.exporting import ExportResult, export_output
from vlray.formats.importing import import_file
from vlray.formats.writers.hf import split_name
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output


@dataclass(frozen=True)
class Form:
    """How a form is read.

    Attributes:
        read: Reader after its users' documentation.
        name: Name of OUT.
        same_count: Whether all images have the same number of regions in another test, too.
        options: Options of the way back.
    """

    read: Callable[[Path, str], consumers.Arrays]
    name: str = "out"
    same_count: bool = False
    options: dict[str, Any] = field(default_factory=dict)


TRUST = {"trust_pickle": True}
FORMS = {
    "tsv6": Form(consumers.tsv6, "out.tsv"),
    "vinvl-tsv": Form(consumers.vinvl_tsv, "out.tsv"),
    "oscar": Form(consumers.oscar, "out.tsv"),
    "mcan": Form(consumers.mcan),
    "openvqa": Form(consumers.openvqa),
    "cocobu": Form(consumers.cocobu),
    "mmf": Form(consumers.mmf, options=TRUST),
    "m2-hdf5": Form(consumers.m2_hdf5, "out.hdf5"),
    "butd-hdf5": Form(consumers.butd_hdf5, "out.hdf5", same_count=True, options=TRUST),
    "uniter-npz": Form(consumers.uniter_npz),
    "lmdb-uniter": Form(consumers.lmdb_uniter),
    "lmdb-volta": Form(consumers.lmdb_volta, options=TRUST),
    "lmdb-mmf": Form(consumers.lmdb_mmf, "out.lmdb", options=TRUST),
    "webdataset": Form(consumers.webdataset),
    "coco-json": Form(consumers.coco_json),
    "hf": Form(consumers.hf),
}
COUNTS = [5, 0, 7, 1]
# What each form looks like; it was compared with the projects' documentation and loaders.
GOLDEN = json.loads((Path(__file__).parent / "golden_headers.json").read_text())


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = {str(n): image(n, COUNTS[n % 4]) for n in range(9)}
    return write_output(tmp_path_factory.mktemp("written") / "output", images)


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = {str(n): image(n, 3) for n in range(5)}
    return write_output(tmp_path_factory.mktemp("written") / "output", images)


def export(out: Path, place: Path, name: str) -> ExportResult:
    return export_output(ConvertConfig(source=str(out), output=str(place), format=name))


def assert_read(got: consumers.Arrays, regions: RegionBatch) -> None:
    """What a consumer reads is what the output has, to the last bit."""
    if len(regions.boxes):
        if "features" in got:
            np.testing.assert_array_equal(got["features"], regions.visual_feats.astype(np.float32))
        if "fractions" in got:
            side = regions.image_hw[0, [1, 0, 1, 0]]
            np.testing.assert_allclose(got["fractions"] * side, regions.boxes, atol=1e-3)
        else:
            np.testing.assert_array_equal(got["boxes"], regions.boxes)
    else:
        assert not np.size(got.get("features", ()))
    if "hw" in got:
        assert tuple(got["hw"]) == tuple(regions.image_hw[0])
    if got.get("obj_ids") is not None:
        np.testing.assert_array_equal(got["obj_ids"], regions.obj_ids)


def back(place: Path, out: Path, first: RegionOutput, form: Form, lacks: tuple[str, ...]) -> None:
    """Import what was written, and compare with the output, but for what the form cannot hold."""
    options = dict(form.options)
    if any("sizes" in lack for lack in lacks):
        sizes = out.with_name("sizes.csv")
        rows = [(i, *first[i].image_hw[0]) for i in first.image_ids]
        text = "\n".join(["id,height,width", *(f"{i},{h},{w}" for i, h, w in rows)])
        sizes.write_text(text)
        options["sizes"] = str(sizes)
    import_file(ConvertConfig(source=str(place), output=str(out), shard_size=3, **options))
    second = open_output(str(out))
    here, there = (output.read(sorted(first.image_ids)) for output in (first, second))
    skipped = {"path", "split"}
    if "classes and scores" in lacks:
        skipped |= {"obj_ids", "obj_probs"}
    if "feature vectors" in lacks:
        skipped |= {"visual_feats"}
    if "attributes" in lacks:
        skipped |= {"attr_ids", "attr_probs"}
    if any("boxes in pixels" in lack for lack in lacks):
        skipped |= {"boxes"}
        flat = [pc.list_flatten(pc.list_flatten(t["boxes"])).to_numpy() for t in (here, there)]
        np.testing.assert_allclose(*flat, atol=1e-3)
    for name in set(here.column_names) - skipped:
        assert here[name].combine_chunks() == there[name].combine_chunks(), name
    assert FORMATS[recorded(second)].reader


def recorded(output: RegionOutput) -> str:
    name = output.info.settings["convert.format"]
    return {"npy": "mmf", "hdf5-butd": "butd-hdf5"}.get(name, name)


@pytest.mark.parametrize("name", FORMS)
def test_users_read_what_was_written_and_it_comes_back(
    name: str, output: Path, even: Path, tmp_path: Path
) -> None:
    form, info = FORMS[name], FORMATS[name]
    for source in (output, even) if form.same_count else (output,):
        place = tmp_path / source.parent.name / form.name
        place.parent.mkdir()
        result = export(source, place, name)
        assert result.images == len(open_output(str(source)))
        assert not list(place.parent.glob("*.part"))
        assert any(f"{name} cannot hold: " in line for line in result.lines()) == bool(info.lacks)
        first = open_output(str(source))
        for image_id in first.image_ids:
            assert_read(form.read(place, image_id), first[image_id])
        assert source == even or header(name, place) == GOLDEN[name]
        back(place, place.parent / "back", first, form, info.lacks)


def breaking_off(after: int) -> Callable[..., Iterator[tuple[str, RegionBatch]]]:
    rows = exporting._rows

    def some(*args: Any) -> Iterator[tuple[str, RegionBatch]]:
        yield from islice(rows(*args), after)
        raise KeyboardInterrupt

    return some


@pytest.mark.parametrize("name", FORMS)
def test_what_broke_off_is_finished_by_the_same_command(
    name: str, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "IMAGES_PER_COMMIT", 2)
    form, place = FORMS[name], tmp_path / FORMS[name].name
    first = open_output(str(output))
    for broken in (0, 5):
        with monkeypatch.context() as patch:
            patch.setattr(exporting, "_rows", breaking_off(broken))
            with pytest.raises(KeyboardInterrupt):
                export(output, place, name)
    result = export(output, place, name)
    assert result.existing == 4
    for image_id in first.image_ids:
        assert_read(form.read(place, image_id), first[image_id])
    assert export(output, place, name).images == 0  # nothing is left to do


def test_splits_have_names_that_datasets_accepts() -> None:
    names = [split_name(split) for split in ("val", "", "all", "test-dev 2015")]
    assert names == ["val", "train", "train", "test_dev_2015"]


def test_every_written_form_is_tried_here() -> None:
    others = {"tsv10", "hdf5", "npz", "grid-pth"}  # in test_exporting.py and test_tensors.py
    assert set(FORMS) | others == set(WRITTEN)


@pytest.mark.parametrize(
    ("name", "image_id", "reason"),
    [
        ("m2-hdf5", "chelsea", "is not a number"),
        ("m2-hdf5", "007", "is not a number"),
        ("mcan", "chelsea", "does not end with a number"),
        ("openvqa", "a.b", "has a dot"),
        ("cocobu", "../b", "is not a valid file name"),
    ],
)
def test_ids_that_users_could_not_find_are_refused(
    name: str, image_id: str, reason: str, tmp_path: Path
) -> None:
    out = write_output(tmp_path / "output", {"3": image(0, 2), image_id: image(1, 2)})
    with pytest.raises(ValueError, match=reason):
        export(out, tmp_path / "out", name)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_file_of_the_users_beside_out_is_not_replaced(output: Path, tmp_path: Path) -> None:
    (tmp_path / "out_imgid2idx.pkl").write_text("mine")
    with pytest.raises(ValueError, match="exists, and the export would replace it"):
        export(output, tmp_path / "out.hdf5", "butd-hdf5")
    assert (tmp_path / "out_imgid2idx.pkl").read_text() == "mine"


def test_vectors_have_their_length_in_each_form(even: Path, tmp_path: Path) -> None:
    export(even, tmp_path / "out.hdf5", "butd-hdf5")
    with consumers.h5py.File(tmp_path / "out.hdf5") as file:
        shapes = {name: (file[name].shape, file[name].dtype.str) for name in file}
    assert shapes == {
        "image_features": ((5, 3, DIM), "<f4"),
        "image_bb": ((5, 3, 4), "<f4"),
        "spatial_features": ((5, 3, 6), "<f4"),
    }


@pytest.mark.parametrize("name", ["npz", "tsv10"])
def test_the_other_forms_have_their_golden_headers(name: str, output: Path, tmp_path: Path) -> None:
    export(output, tmp_path / "out", name)
    assert header(name, tmp_path / "out") == GOLDEN[name]
