from __future__ import annotations

import gzip
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlray.config.convert import ConvertConfig
from vlray.config.formats import ALIASES, FORMATS, READ, WRITTEN
from vlray.detect.lite import WEIGHTS
from vlray.formats.lookup import open_reader, reader_of, recognize
from vlray.formats.writers.base import Export
from vlray.settings import plugins


@pytest.mark.parametrize("name", READ)
def test_each_form_has_a_reader_of_its_name(name: str) -> None:
    reader = reader_of(name)
    assert reader.name == name
    assert ("pickled" in FORMATS[name].about) == reader.pickled


@pytest.mark.parametrize("name", WRITTEN)
def test_each_written_form_has_a_writer_and_a_way_back(name: str) -> None:
    info = FORMATS[name]
    assert issubclass(plugins.load(info.writer), Export)
    back = info.read_as or name
    assert back in READ
    assert reader_of(back).name == back


def test_former_names_lead_to_the_same_readers() -> None:
    for former, name in ALIASES.items():
        assert reader_of(former) is reader_of(name)
        assert ConvertConfig(source="a", output="b", format=former).format == name
    with pytest.raises(ValueError, match="mcan is written only; read its files with --format npz"):
        reader_of("mcan")


def test_an_unknown_form_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown format 'tvs'; choose from tsv10, tsv6, vinvl, npz"
    ):
        reader_of("tvs")
    (tmp_path / "notes.txt").write_text("nothing of that kind\n")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="matches no supported format"):
            recognize(source)


def test_images_and_weights_are_told_how_they_become_regions(photos: Path, tmp_path: Path) -> None:
    splits = tmp_path / "my set" / "train"
    splits.mkdir(parents=True)
    (tmp_path / "my set" / "README").write_text("two photographs")
    for name in ("coffee.png", "chelsea.png"):
        shutil.copy(photos / name, splits)
    for source in (photos, photos / "coffee.png", splits.parent):
        with pytest.raises(ValueError, match=r"not regions; extract .*: vlray extract .* REGIONS$"):
            recognize(source)
    with pytest.raises(ValueError, match=r"vlray extract '.*/my set' REGIONS"):
        recognize(splits.parent)
    with pytest.raises(ValueError, match=r"extract IMAGES REGIONS --weights .*/lite\.safetensors "):
        recognize(WEIGHTS)
    shutil.copy(WEIGHTS, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"like detector weights.*--name vg-caffe"):
        recognize(tmp_path / "model.pth")


def test_pickles_wait_for_trust(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"opening a pickle can run code.*pass --trust-pickle"):
        open_reader("lmdb", tmp_path, trust_pickle=False)


def test_a_class_that_is_no_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="os:system is not a reader: it has no name and no pickl"):
        reader_of("os:system")


def unknown_files(folder: Path) -> dict[str, tuple[Path, str, str]]:
    """Files that no reader knows: each with what it looks like, and the nearest form."""
    places = {name: folder / name for name in "abcdefghi"}
    with h5py.File(places["a"], "w") as file:
        for name in ("image_features", "spatial_features", "num_boxes"):
            file[name] = [1]
    np.savez(places["b"].with_suffix(".npz"), x=[1], num_bbox=[2])
    places["c"].write_text("id\timage_w\timage_h\n1\t2\t3\n")
    places["d"].write_bytes(gzip.compress(b"one line of text"))
    places["e"].write_text('[{"image_id": 1, "category_id": 2, "score": 0.5}]')
    places["f"].write_bytes(b"\x00\x01\x02\x03" * 99)
    pq.write_table(pa.table({"image_id": ["1"], "embedding": [[1.0]]}), places["g"])
    places["h"].write_bytes(b"")
    places["i"].write_bytes(pickle.dumps({"a": 1}))
    return {
        "a": (places["a"], "an HDF5 file with image_features, num_boxes, spatial", "butd-hdf5"),
        "b": (places["b"].with_suffix(".npz"), "a zip archive with x, num_bbox", "npz"),
        "c": (places["c"], "text with 3 columns ('id', 'image_w', 'image_h')", "tsv6"),
        "d": (places["d"], "compressed with gzip: text that begins with 'one line", "tsv10"),
        "e": (places["e"], "JSON with the keys image_id, category_id, score", "coco-json"),
        "f": (places["f"], "a binary file of unknown kind", ""),
        "g": (places["g"], "a Parquet file with image_id, embedding", "hf"),
        "h": (places["h"], "an empty file", ""),
        "i": (places["i"], "a Python pickle", "visualbert-th"),
    }


def test_an_unknown_file_is_described_with_the_three_nearest_forms(tmp_path: Path) -> None:
    for source, looks, near in unknown_files(tmp_path).values():
        with pytest.raises(ValueError, match="matches no supported format") as raised:
            recognize(source)
        message = str(raised.value)
        assert f"it is {looks}" in message or looks in message, message
        listed = message.partition("The nearest formats are ")[2].partition(". Pass --format")[0]
        assert len(listed.split("; ")) == 3
        assert listed.startswith(f"{near} (" if near else "")


def test_a_folder_is_described_by_most_of_its_files(tmp_path: Path) -> None:
    for n in range(3):
        np.savez(tmp_path / f"{n}.npz", box_features=[1], num_bbox=[1])
    (tmp_path / "readme.txt").write_text("text")
    with pytest.raises(ValueError, match=r"of 4 files \(3 \.npz, 1 \.txt\); 0\.npz is a zip"):
        recognize(tmp_path)
