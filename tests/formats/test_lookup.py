from __future__ import annotations

import shutil
from pathlib import Path

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
