"""Damaged and foreign files of an output are named, with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.random_outputs import write_output
from vlray.regions import open_output
from vlray.regions.store import open_store

IDS = [f"image{number}" for number in range(7)]
PART = "regions/part-00000.parquet"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for index in range(8, len(content) // 2, 5):
        content[index] ^= 255
    path.write_bytes(content)


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def read_whole(output: Path, cache: Path) -> None:
    opened = open_output(str(output))
    opened.read(opened.image_ids)
    open_store(str(output), cache)


def unpack(output: Path, cache: Path) -> None:
    open_store(str(output), cache)


@pytest.mark.parametrize("read", [read_whole, unpack])
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("vlray.json", cut, r"vlray\.json is damaged \(.*\); restore it from a copy"),
        ("vlray.json", lambda path: path.write_text("[1]"), r"vlray\.json has another form: it"),
        ("vlray.json", lambda path: path.write_text("[" * 10**5), r"vlray\.json is nested too"),
        ("vlray.json", lambda path: path.write_bytes(b"\xff"), r"vlray\.json is damaged"),
        ("labels.json", lambda path: path.write_text("{"), r"labels\.json is damaged"),
        ("labels.json", lambda path: path.write_text("{}"), r"labels\.json has another form"),
        (PART, cut, r"part-00000\.parquet is damaged \(.*\); remove this file, and run"),
        (PART, flipped, r"part-00000\.parquet is damaged \(.*\); remove this file, and run"),
        (PART, foreign, r"part-00000\.parquet has another form: it lacks .*; remove this file"),
    ],
)
def test_the_damaged_file_is_named(
    tmp_path: Path,
    read: Callable[[Path, Path], None],
    name: str,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    write_output(str(tmp_path / "out"), IDS)
    damage(tmp_path / "out" / name)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "out", tmp_path / "cache")


def test_a_foreign_description_is_named(tmp_path: Path) -> None:
    write_output(str(tmp_path), IDS)
    (tmp_path / "vlray.json").write_text('{"schema_version": 1}')
    with pytest.raises(ValueError, match=r"vlray\.json has another form: it lacks dataset, detec"):
        open_output(str(tmp_path))


@pytest.mark.parametrize("read", [read_whole, unpack])
def test_images_with_several_rows_are_refused(
    tmp_path: Path, read: Callable[[Path, Path], None]
) -> None:
    out = tmp_path / "out"
    write_output(str(out), IDS)
    read(out, tmp_path / "cache")
    shutil.copy(out / "regions" / "part-00001.parquet", out / "regions" / "part-00007.parquet")
    with pytest.raises(ValueError, match=r"several rows for 2 images, such as image5, image6; rem"):
        read(out, tmp_path / "cache")
