"""Region files whose content changes under their names, at the same size."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.formats import written
from tests.formats.written import Image
from vlray.config.convert import ConvertConfig
from vlray.formats.importing import ImportResult, import_file
from vlray.formats.readers.tsv import COLUMNS_10
from vlray.regions.output import open_output
from vlray.storage import files, fingerprint


def tsv(folder: Path, images: Sequence[Image]) -> Path:
    rows = [written.volta_of_tsv(image) for image in images]
    lines = ["\t".join(row[column] for column in COLUMNS_10) for row in rows]
    (folder / "s.tsv").write_text("\n".join(lines) + "\n")
    return folder / "s.tsv"


def npz(folder: Path, images: Sequence[Image]) -> Path:
    (folder / "s").mkdir(exist_ok=True)
    for image in images:
        sizes = {"image_h": image.height, "image_w": image.width, "num_bbox": len(image.boxes)}
        path = folder / "s" / f"{image.image_id}.npz"
        np.savez(path, x=image.features, bbox=image.boxes, **sizes)
    return folder / "s"


def npy(folder: Path, images: Sequence[Image]) -> Path:
    for image in images:
        written.save_npy(folder / "s", image, written.mmf_vmb(image))
    return folder / "s"


def lmdb(folder: Path, images: Sequence[Image]) -> Path:
    shutil.rmtree(folder / "s", ignore_errors=True)
    items = {image.image_id: written.volta_of_tsv(image) for image in images}
    return written.save_lmdb(folder / "s", items)


def hdf5(folder: Path, images: Sequence[Image]) -> Path:
    return written.hdf5_volta(folder / "s.h5", images)


def hdf5_butd(folder: Path, images: Sequence[Image]) -> Path:
    return written.hdf5_butd(folder / "s.hdf5", images, adaptive=True)


def arrow(folder: Path, images: Sequence[Image]) -> Path:
    columns = written.hf_columns(images)
    table = pa.table(columns)
    return written.save_stream(folder / "s.arrow", table)


Writer = Callable[[Path, Sequence[Image]], Path]
WRITERS: list[Writer] = [tsv, npz, npy, lmdb, hdf5, hdf5_butd, arrow]

OLD = written.some_images(6)
NEW = [replace(image, features=image.features[:, ::-1].copy()) for image in OLD]


def convert(source: Path, out: Path, **options: object) -> ImportResult:
    given = {"trust_pickle": True, "shard_size": 2, "dtype": "float32"} | options
    return import_file(ConvertConfig(source=str(source), output=str(out), **given))


def features(out: Path) -> list[float]:
    """The sums of the first columns of all images, which tell old content from new."""
    output = open_output(str(out))
    return sorted(float(output[name].visual_feats[:, 0].sum()) for name in output.image_ids)


def expected(images: Sequence[Image]) -> list[float]:
    return pytest.approx(sorted(float(image.features[:, 0].sum()) for image in images), rel=1e-5)


def bytes_of(source: Path) -> int:
    paths = source.rglob("*") if source.is_dir() else [source]
    return sum(path.stat().st_size for path in paths if path.is_file())


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("missing", ["nothing", "one part"])
def test_changed_content_gives_new_features(writer: Writer, missing: str, tmp_path: Path) -> None:
    source, out = writer(tmp_path, OLD), tmp_path / "out"
    size = bytes_of(source)
    assert not convert(source, out).is_redone
    assert features(out) == expected(OLD)
    writer(tmp_path, NEW)
    assert bytes_of(source) == size
    if missing == "one part":
        (out / "regions" / "part-00001.parquet").unlink()
    result = convert(source, out)
    assert (result.is_redone, result.images, result.existing) == (True, 6, 0)
    assert features(out) == expected(NEW)
    assert convert(source, out).existing == 6


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_changed_content_is_refused_where_that_is_asked_for(writer: Writer, tmp_path: Path) -> None:
    source, out = writer(tmp_path, OLD), tmp_path / "out"
    convert(source, out)
    writer(tmp_path, NEW)
    with pytest.raises(ValueError, match=f"{source.name} has changed since .*--on-changed redo"):
        convert(source, out, on_changed="refuse")
    assert features(out) == expected(OLD)


def test_the_list_of_ids_beside_hdf5_rows_counts(tmp_path: Path) -> None:
    source, out = hdf5_butd(tmp_path, OLD), tmp_path / "out"
    convert(source, out)
    renamed = [
        replace(image, image_id=other.image_id)
        for image, other in zip(OLD, reversed(OLD), strict=True)
    ]
    before = source.read_bytes()
    hdf5_butd(tmp_path, renamed)
    source.write_bytes(before)  # so that only the pickle has changed
    assert convert(source, out).is_redone


def test_other_times_alone_change_nothing(tmp_path: Path) -> None:
    source, out = npz(tmp_path, OLD), tmp_path / "out"
    convert(source, out)
    for path in source.iterdir():
        os.utime(path, ns=(1, 1))
    assert convert(source, out).existing == 6


def test_the_middle_of_much_content_is_known_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = npz(tmp_path, OLD), tmp_path / "out"
    monkeypatch.setattr(fingerprint, "SAMPLED", 400)
    convert(source, out)
    assert convert(source, out).existing == 6
    npz(tmp_path, [*OLD[:2], *NEW[2:4], *OLD[4:]])
    assert convert(source, out).is_redone
    assert features(out) == expected([*OLD[:2], *NEW[2:4], *OLD[4:]])
    copy = tmp_path / "copy" / "s"  # with other times, but at another place
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    assert convert(copy, out).existing == 6


def test_another_source_of_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    out = tmp_path / "out"
    convert(npz(tmp_path / "train", OLD), out)
    with pytest.raises(ValueError, match=r"with different settings(.|\n)*source: .*train/s.*val/s"):
        convert(npz(tmp_path / "val", NEW), out)
    assert features(out) == expected(OLD)


def test_changed_content_with_other_settings_is_refused(tmp_path: Path) -> None:
    source, out = tsv(tmp_path, OLD), tmp_path / "out"
    convert(source, out)
    tsv(tmp_path, NEW)
    with pytest.raises(ValueError, match=r"convert\.split: '' in the output, 'val' now"):
        convert(source, out, split="val")
    assert features(out) == expected(OLD)


def test_an_output_of_an_older_version_is_adopted_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = npz(tmp_path, OLD), tmp_path / "out"
    convert(source, out)
    about = json.loads((out / "vlray.json").read_text())
    del about["source"]
    (out / "vlray.json").write_text(json.dumps(about))
    assert convert(source, out).existing == 6
    assert "did not record the content of" in caplog.text
    npz(tmp_path, NEW)
    assert convert(source, out).is_redone
    assert features(out) == expected(NEW)


def test_a_death_while_the_old_parts_are_removed_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(20):
        folder = tmp_path / str(step)
        folder.mkdir()
        source, out = npz(folder, OLD), folder / "out"
        convert(source, out)
        npz(folder, NEW)
        left = step
        with monkeypatch.context() as patch:
            for name in ("write_atomic", "remove"):
                original = getattr(files, name)

                def dying(*args: object, original: Callable[..., None] = original) -> None:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise KeyboardInterrupt
                    original(*args)

                patch.setattr(files, name, dying)
            with contextlib.suppress(KeyboardInterrupt):
                convert(source, out)
        convert(source, out)
        assert features(out) == expected(NEW)
        if left >= 0:
            break
    assert step > 8
