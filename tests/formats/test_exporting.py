from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.made_up import DIM, image, write_output
from vlray.config.convert import ConvertConfig
from vlray.formats import exporting
from vlray.formats.exporting import ExportResult, export_output
from vlray.formats.importing import import_file
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output


def export(out: Path, place: Path, **options: Any) -> ExportResult:
    return export_output(ConvertConfig(source=str(out), output=str(place), **options))


def back(place: Path, out: Path, **options: Any) -> RegionOutput:
    import_file(ConvertConfig(source=str(place), output=str(out), shard_size=3, **options))
    return open_output(str(out))


def assert_same(one: RegionOutput, other: RegionOutput) -> None:
    """Every column that the other forms hold is the same, to the last bit."""
    assert (one.obj_names, one.attr_names) == (other.obj_names, other.attr_names)
    assert sorted(one.image_ids) == sorted(other.image_ids)
    here, there = (output.read(one.image_ids) for output in (one, other))
    for name in set(here.column_names) - {"path", "split"}:
        assert here[name].combine_chunks() == there[name].combine_chunks(), name


@pytest.fixture
def output(tmp_path: Path) -> Path:
    images = {f"i{n}": image(n, [5, 0, 36, 1][n % 4]) for n in range(14)}
    return write_output(tmp_path / "output", images)


ids = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\"'"), min_size=1
)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(ids, min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 7), min_size=6, max_size=6),
    st.sampled_from(["oa", "o", ""]),
    st.sampled_from(["float16", "float32"]),
)
def test_parquet_to_tsv_to_parquet_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    counts: list[int],
    heads: str,
    dtype: str,
) -> None:
    folder = tmp_path_factory.mktemp("identity")
    rows = zip(names, counts, strict=False)
    images = {name: image(n, count, heads) for n, (name, count) in enumerate(rows)}
    if not any(len(regions.boxes) for regions in images.values()):
        images[names[0]] = image(0, 3, heads)
    out = write_output(folder / "output", images, dtype)
    export(out, folder / "there.tsv")
    assert_same(open_output(str(out)), back(folder / "there.tsv", folder / "back", dtype=dtype))


@pytest.mark.parametrize("name", ["there.tsv", "there.h5", "there"])
def test_every_form_that_is_written_comes_back_whole(
    name: str, output: Path, tmp_path: Path
) -> None:
    result = export(output, tmp_path / name)
    assert result.images == 14
    assert not list(tmp_path.glob("*.part"))
    there = back(tmp_path / name, tmp_path / "back", trust_pickle=True)
    assert_same(open_output(str(output)), there)


def content(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


@pytest.mark.parametrize("name", ["there.tsv", "there.h5", "there"])
def test_what_broke_off_anywhere_ends_as_the_unbroken_export(
    name: str, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "IMAGES_PER_COMMIT", 3)
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    export(output, whole)
    for broken in (0, 5, 13):
        place = tmp_path / f"{broken}" / name
        place.parent.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(exporting, "_rows", breaking_off(broken))
            with pytest.raises(KeyboardInterrupt):
                export(output, place)
        assert not place.is_file()
        result = export(output, place)
        assert result.existing == broken // 3 * 3
        assert content(place) == content(whole)


def breaking_off(after: int) -> Callable[..., Iterator[tuple[str, RegionBatch]]]:
    """What reads an output, until somebody presses Ctrl-C."""
    rows = exporting._rows

    def some(*args: Any) -> Iterator[tuple[str, RegionBatch]]:
        yield from islice(rows(*args), after)
        raise KeyboardInterrupt

    return some


def test_a_finished_export_has_nothing_to_do_and_others_do_not_take_its_place(
    output: Path, tmp_path: Path
) -> None:
    export(output, tmp_path / "there.tsv")
    again = export(output, tmp_path / "there.tsv")
    assert again.lines() == [
        f"nothing to do: all images (14) are already in {tmp_path / 'there.tsv'}"
    ]
    with pytest.raises(ValueError, match="exists, but is not an export of this output"):
        export(output, tmp_path / "there.tsv", split="s1")
    (tmp_path / "mine.h5").write_text("my own file")
    with pytest.raises(ValueError, match="exists, but is not an export"):
        export(output, tmp_path / "mine.h5")
    assert (tmp_path / "mine.h5").read_text() == "my own file"


def test_an_output_that_changed_in_between_is_not_mixed_in(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_rows", breaking_off(3))
        with pytest.raises(KeyboardInterrupt):
            export(output, tmp_path / "there.tsv")
    (output / "regions" / "part-00003.parquet").unlink()
    with pytest.raises(ValueError, match="from an earlier state of the output; remove it"):
        export(output, tmp_path / "there.tsv")


def test_a_split_is_exported_alone(output: Path, tmp_path: Path) -> None:
    assert export(output, tmp_path / "there.tsv", split="s1").images == 7
    with pytest.raises(ValueError, match="no images in split s2; choose from: s0, s1"):
        export(output, tmp_path / "other.tsv", split="s2")


def test_forms_that_are_only_read_are_refused_by_name(output: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="vinvl is supported for imports only; choose from: tsv10, tsv6, vinvl-tsv,",
    ):
        export(output, tmp_path / "there.tsv", format="vinvl")
    with pytest.raises(ValueError, match="export to a local file or folder"):
        export_output(ConvertConfig(source=str(output), output="s3://bucket/there.tsv"))


def test_options_of_an_import_are_not_ignored(output: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="remove --dtype, --shard-size, which apply to imports only"
    ):
        export(output, tmp_path / "there.tsv", dtype="float32", shard_size=7)


@pytest.mark.parametrize(
    ("image_id", "name", "reason"),
    [
        ("two\nlines", "there.tsv", "has a line break"),
        ("a/b", "there.h5", "is not a valid HDF5 group name"),
        ("../b", "there", "is not a valid file name"),
    ],
)
def test_ids_that_a_form_cannot_hold_are_named_before_anything_is_written(
    image_id: str, name: str, reason: str, tmp_path: Path
) -> None:
    out = write_output(tmp_path / "output", {"fine": image(0, 2), image_id: image(1, 2)})
    with pytest.raises(ValueError, match=reason):
        export(out, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_hdf5_has_voltas_fields_and_types(output: Path, tmp_path: Path) -> None:
    export(output, tmp_path / "there.h5")
    with h5py.File(tmp_path / "there.h5") as file:
        group = file["i2"]
        kinds = {name: (group[name].dtype.str, group[name].shape) for name in group}
    labels = {"obj_id": "<i8", "obj_conf": "<f4", "attr_id": "<i8", "attr_conf": "<f4"}
    assert kinds == {
        "features": ("<f4", (36, DIM)),
        "boxes": ("<f4", (36, 4)),
        "img_h": ("<i8", ()),
        "img_w": ("<i8", ()),
        **{name: (kind, (36,)) for name, kind in labels.items()},
    }


def test_npz_has_milvlgs_fields(output: Path, tmp_path: Path) -> None:
    export(output, tmp_path / "there")
    archive = np.load(tmp_path / "there" / "i2.npz", allow_pickle=True)
    assert set(archive) == {"x", "bbox", "num_bbox", "image_h", "image_w", "info"}
    info = archive["info"].item()
    assert (info["image_id"], info["num_boxes"], info["objects_id"].dtype) == ("i2", 36, "<i8")


def test_the_published_file_comes_out_again_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    published = shared / "fixtures/butd/train2014_obj36.tsv"
    back(published, tmp_path / "out", dtype="float32")
    export(tmp_path / "out", tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_bytes() == published.read_bytes()


def test_the_way_back_of_npz_trusts_pickles(tmp_path: Path) -> None:
    result = ExportResult(tmp_path / "out", "npz", images=1, seconds=1.0)
    assert result.lines()[-1].endswith("out OUT --trust-pickle")
    result = ExportResult(tmp_path / "out.tsv", "tsv10", images=1, seconds=1.0)
    assert result.lines()[-1].endswith("out.tsv OUT")
