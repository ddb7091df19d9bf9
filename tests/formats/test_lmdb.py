"""LMDB databases of MMF and VOLTA: all of their values' forms give the same regions."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from tests.formats import written
from tests.formats.written import Image, assert_resumes, assert_same, read_all, some_images
from vlray.formats.readers import lmdb_database
from vlray.formats.readers.lmdb_file import LmdbReader
from vlray.formats.readers.protocol import RawRegions, Unreadable


def mmf(image: Image) -> dict[str, Any]:
    """What lmdb_conversion.py makes of the two files."""
    return {"feature_path": image.image_id, "features": image.features, **written.mmf_vmb(image)}


FORMS: dict[str, tuple[Callable[[Image], dict[str, Any]], str]] = {
    "mmf": (mmf, "oO"),
    "volta-tsv": (written.volta_of_tsv, "oOaA"),
    "volta-hdf5": (written.volta_of_hdf5, "oOaA"),
    "volta-npy": (written.volta_of_npy, "oO"),
}


@pytest.mark.parametrize("subdir", [True, False], ids=["folder", "file"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_values_is_read(form: str, subdir: bool, tmp_path: Path) -> None:
    make, labels = FORMS[form]
    images = some_images()
    source = tmp_path / "feats.lmdb"
    written.save_lmdb(source, {image.image_id: make(image) for image in images}, subdir)
    assert LmdbReader.recognizes(source)
    reader = LmdbReader(source, trust_pickle=True)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels)
        assert got.image_hw == (image.height, image.width)
        assert got.remarks == ()
    assert_resumes(reader)


def test_two_readings_at_once_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_database, "_CHUNK", 1)  # opened anew for each value
    images = some_images(5)
    written.save_lmdb(tmp_path / "a", {image.image_id: mmf(image) for image in images})
    reader = LmdbReader(tmp_path / "a", trust_pickle=True)
    pairs = list(zip(reader.read(), reader.read(), strict=True))
    assert [at for (at, _), _ in pairs] == [1, 2, 3, 4, 5]
    for ((_, one), (_, other)), image in zip(pairs, images, strict=True):
        assert_same(one, image, "oO")
        assert_same(other, image, "oO")


def test_keys_that_sort_around_the_list_of_keys_are_all_read(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.save_lmdb(tmp_path / "a", {key: mmf(image) for key in ("a", "kex", "keyss", "z")})
    reader = LmdbReader(tmp_path / "a", trust_pickle=True)
    assert [item.image_id for item in read_all(reader)] == ["a", "kex", "keyss", "z"]


def test_a_damaged_value_leaves_the_others_readable(tmp_path: Path) -> None:
    images = some_images(6)
    items: dict[str, Any] = {image.image_id: written.volta_of_hdf5(image) for image in images}
    ids = list(items)
    items[ids[0]] = b"not a pickle"
    items[ids[1]]["boxes"] = items[ids[1]]["boxes"][:-1]
    del items[ids[2]]["features"]
    items[ids[3]] = written.volta_of_tsv(images[3]) | {"boxes": "AAA"}
    items[ids[4]] = [1, 2]
    got = read_all(LmdbReader(written.save_lmdb(tmp_path / "a", items), trust_pickle=True))
    assert [type(item) for item in got] == [Unreadable] * 5 + [RawRegions]
    reasons = [item.reason for item in got[:5] if isinstance(item, Unreadable)]
    assert f"the value of '{ids[0]}' is a damaged pickle" in reasons[0]
    assert reasons[1] == "features have shape (3, 12), but the image has 2 boxes"
    assert reasons[2] == "the image has no features"
    assert "padding" in reasons[3]
    assert "has type list, not dict" in reasons[4]


class Evil:
    """Unpickles by leaving a folder behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_value_that_would_run_code_is_refused_even_with_trust(tmp_path: Path) -> None:
    (image,) = some_images(1)
    trace = tmp_path / "trace"
    items = {"a": mmf(image) | {"extra": Evil(trace)}, "b": mmf(image)}
    source = written.save_lmdb(tmp_path / "feats", items)
    with pytest.raises(ValueError, match=r"run code.*--trust-pickle"):
        LmdbReader(source)
    bad, good = read_all(LmdbReader(source, trust_pickle=True))
    assert isinstance(bad, Unreadable)
    assert f"imports {os.mkdir.__module__}.mkdir" in bad.reason
    assert isinstance(good, RawRegions)
    assert not trace.exists()


def test_a_malicious_list_of_keys_is_never_opened(tmp_path: Path) -> None:
    (image,) = some_images(1)
    source = written.save_lmdb(tmp_path / "feats", {"a": mmf(image)})
    with lmdb.open(str(source), map_size=2**28) as env, env.begin(write=True) as txn:
        txn.put(b"keys", pickle.dumps(Evil(tmp_path / "trace")))
    assert len(read_all(LmdbReader(source, trust_pickle=True))) == 1
    assert not (tmp_path / "trace").exists()


def test_tensorpacks_databases_are_refused_with_the_way_out(tmp_path: Path) -> None:
    source = written.save_lmdb(tmp_path / "td", {"00000000": b"msgpack", "__keys__": b"list"})
    with pytest.raises(ValueError, match=r"tensorpack database.*HDF5"):
        LmdbReader(source, trust_pickle=True)


def test_a_database_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    images = some_images(3, dim=2048)
    source = written.save_lmdb(tmp_path / "a", {image.image_id: mmf(image) for image in images})
    path = source / "data.mdb"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"data\.mdb is truncated .*copy it again"):
        LmdbReader(source, trust_pickle=True)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.mdb"
    path.write_bytes(np.random.default_rng(0).bytes(8192))
    assert not LmdbReader.recognizes(tmp_path)
    assert not LmdbReader.recognizes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be opened as LMDB"):
        LmdbReader(tmp_path, trust_pickle=True)


@pytest.mark.parametrize("key", ["features", "boxes", "objects", "img_h"])
def test_lists_that_hold_one_list_many_times_are_not_expanded(key: str, tmp_path: Path) -> None:
    bomb: list[Any] = [0.0] * 30
    for _ in range(7):
        bomb = [bomb] * 30
    item = written.volta_of_tsv(some_images(1)[0]) | {key: bomb}
    assert len(pickle.dumps(bomb)) < 10_000
    written.save_lmdb(tmp_path / "in.lmdb", {"a": item})
    (read,) = read_all(LmdbReader(tmp_path / "in.lmdb", trust_pickle=True))
    assert isinstance(read, Unreadable)
    assert "more than the limit of 1,073,741,824 for one image" in read.reason


def test_an_npz_as_a_value_is_not_unpacked(tmp_path: Path) -> None:
    archive = io.BytesIO()
    np.savez_compressed(archive, bbox=np.zeros((10**6, 4), np.float32))
    item = written.volta_of_tsv(some_images(1)[0]) | {"features": archive.getvalue()}
    values = {b"a": archive.getvalue(), b"b": pickle.dumps(item)}
    with lmdb.open(str(tmp_path / "in.lmdb")) as env, env.begin(write=True) as txn:
        for key, value in values.items():
            txn.put(key, value)
    first, second = read_all(LmdbReader(tmp_path / "in.lmdb", trust_pickle=True))
    assert isinstance(first, Unreadable)
    assert "the value of 'a'" in first.reason
    assert isinstance(second, Unreadable)
