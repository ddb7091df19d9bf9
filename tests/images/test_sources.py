"""Archives and tables of images are listed and read like the folder that they were made from."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from tests.images.archives import IMAGES, add, content, write_parquet, write_tar, write_zip
from vlray.images.decode import ImageError
from vlray.images.find import list_images
from vlray.images.listing import Listing
from vlray.images.sources import handles, known, rows, zips
from vlray.images.sources.members import digests, read_image
from vlray.storage import fingerprint

WRITERS: dict[str, Callable[[Path], Path]] = {
    "ustar": lambda folder: write_tar(folder / "x.tar", format=tarfile.USTAR_FORMAT),
    "pax": lambda folder: write_tar(folder / "x.tar", format=tarfile.PAX_FORMAT),
    "gnu": lambda folder: write_tar(folder / "x.tar", format=tarfile.GNU_FORMAT),
    "gzip": lambda folder: write_tar(folder / "x.tar.gz", "w:gz"),
    "stored": lambda folder: write_zip(folder / "x.zip", zipfile.ZIP_STORED),
    "deflated": lambda folder: write_zip(folder / "x.zip", folder="deep/er/"),
    "parquet": lambda folder: write_parquet(folder / "x.parquet"),
    "hugging face": lambda folder: write_parquet(folder / "hf/data/x-00000-of-00001.parquet"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_source_has_the_images_and_ids_of_the_folder(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    root = path.parents[1] if kind == "hugging face" else path
    listing = list_images(str(root))
    assert content(listing) == {name[:-4]: data for name, data in IMAGES.items()}
    assert listing.table["split"].unique().to_pylist() == ["all"]
    # Also by the path alone, as `vlray view` has it, and in any order.
    for row in reversed(listing.table.to_pylist()):
        assert read_image(listing.root, row["path"]) == IMAGES[row["image_id"] + ".jpg"]
    columns = [listing.table[name].to_pylist() for name in ("path", "place")]
    assert digests(listing.root, *columns) == [fingerprint.digest(data) for data in IMAGES.values()]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path: Path, form: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for number in range(40):
            folder = "long/" * (number % 3 * 13)
            add(
                tar,
                f"{folder}{number}-é.jpg",
                bytes(number * 50_000 if number % 7 == 0 else number),
            )
            if number % 9 == 0:
                for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
                    info = tarfile.TarInfo(f"{number}-{kind!r}.jpg")
                    info.type, info.linkname = kind, "0-é.jpg"
                    tar.addfile(info)
    with tarfile.open(path) as tar:
        places = {m.name: f"tar {m.offset_data} {m.size}" for m in tar if m.isreg()}
    listed = list_images(str(path), id_rule="path").table.to_pylist()
    assert {row["path"].partition("!")[2]: row["place"] for row in listed} == places
    assert len(listed) == 40


@pytest.mark.parametrize(("kind", "name"), [("ustar", "x.zip"), ("deflated", "x.tar")])
def test_an_archive_is_known_by_its_content(tmp_path: Path, kind: str, name: str) -> None:
    path = WRITERS[kind](tmp_path).rename(tmp_path / name)
    assert content(list_images(str(path))) == {n[:-4]: data for n, data in IMAGES.items()}
    with tarfile.open(tmp_path / "plain.tar.gz", "w") as tar:
        add(tar, "000.jpg", IMAGES["000.jpg"])
    assert content(list_images(str(tmp_path / "plain.tar.gz"))) == {"000": IMAGES["000.jpg"]}


def test_archives_that_have_not_changed_are_not_read_again(tmp_path: Path) -> None:
    some = list(IMAGES.items())
    archives = [tmp_path / name for name in ("a.tar", "b.zip", "c.parquet")]
    write_tar(archives[0], images={f"a{name}": data for name, data in some})
    write_zip(archives[1])
    write_parquet(archives[2], rows_per_group=2)
    first = list_images(str(tmp_path), id_rule="path")
    fs, path = LocalFileSystem(), str(tmp_path / ".known")
    known.store(fs, path, first.members)
    written = (tmp_path / ".known").read_bytes()
    for archive in archives:
        status = archive.stat()
        archive.write_bytes(b"x" * status.st_size)
        os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = list_images(str(tmp_path), id_rule="path", known=known.load(fs, path))
    assert again.table.equals(first.table)
    assert again.skipped == first.skipped
    known.store(fs, path, again.members)
    assert (tmp_path / ".known").read_bytes() == written
    # What has another time, or would be listed otherwise, is read; damage is not kept.
    os.utime(archives[0], ns=(1, 1))
    grown = list_images(str(tmp_path), id_rule="path", known=known.load(fs, path))
    assert [archive for archive, _ in grown.damaged] == ["a.tar"]
    known.store(fs, path, grown.members)
    assert {name for name, _ in known.load(fs, path).archives} == {"b.zip", "c.parquet"}
    with pytest.raises(ValueError, match=r"a\.tar: the archive is damaged"):
        list_images(str(tmp_path), exclude=("x",), known=known.load(fs, path))


@pytest.mark.parametrize("kind", ["gzip", "parquet"])
def test_sources_in_order_are_read_in_any_order(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "WINDOW", 1000)
    monkeypatch.setattr(rows, "BATCH", 1)
    listing = list_images(str(WRITERS[kind](tmp_path)))
    table = listing.table.to_pylist()
    for number in (0, 2, 1, 6, 5, 0, 3):
        row = table[number]
        data = read_image(listing.root, row["path"], row["place"])
        assert data == IMAGES[f"{number:03d}.jpg"]


def test_archives_of_a_folder_and_of_a_pattern_are_one_source(tmp_path: Path) -> None:
    some = list(IMAGES.items())
    write_tar(tmp_path / "train-000.tar", images=dict(some[:3]))
    write_tar(tmp_path / "train-001.tar", images=dict(some[3:5]))
    write_tar(tmp_path / "val-000.tar", images=dict(some[5:]))
    whole = list_images(str(tmp_path))
    assert whole.archives == 3
    assert whole.table["split"].to_pylist() == ["train"] * 5 + ["val"] * 2
    assert list_images(str(tmp_path), split=("val",)).table.num_rows == 2
    train = list_images(str(tmp_path / "train-{000..001}.tar")).table
    assert train.equals(whole.table.slice(0, 5))
    assert list_images(str(tmp_path / "*-000.tar")).table.num_rows == 5
    with pytest.raises(FileNotFoundError, match=r"1 file of 3 does not exist, such as train-002"):
        list_images(str(tmp_path / "train-{000..002}.tar"))
    with pytest.raises(FileNotFoundError, match="no file matches"):
        list_images(str(tmp_path / "test-*.tar"))


def test_a_folder_with_images_keeps_its_archives_out(tmp_path: Path) -> None:
    write_zip(tmp_path / "backup.zip")
    (tmp_path / "a.jpg").write_bytes(b"x")
    listing = list_images(str(tmp_path))
    assert listing.table["path"].to_pylist() == ["a.jpg"]
    assert listing.skipped == {".zip": 1}
    assert listing.unread == ("backup.zip",)


def test_members_of_the_same_name_get_ids_with_their_archives(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, images=dict(list(IMAGES.items())[:1]))
    with pytest.raises(
        ValueError, match=r"'a\.tar!000\.jpg' and 'b\.tar!000\.jpg' .* --images.id-rule 'path'"
    ):
        list_images(str(tmp_path))
    ids = list_images(str(tmp_path), id_rule="path").table["image_id"].to_pylist()
    assert ids == ["a/000", "b/000"]


def test_other_archives_and_outputs_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar.bz2").write_bytes(b"BZh")
    with pytest.raises(ValueError, match="does not read such archives; unpack it"):
        list_images(str(tmp_path / "x.tar.bz2"))
    (tmp_path / "out" / "regions").mkdir(parents=True)
    (tmp_path / "out" / "vlray.json").write_text("{}")
    pq.write_table(pa.table({"image_id": ["1"]}), tmp_path / "out" / "regions" / "x.parquet")
    with pytest.raises(ValueError, match="is an output of vlray; pass the images"):
        list_images(str(tmp_path / "out"))


def test_ids_of_rows_come_from_a_column(tmp_path: Path) -> None:
    data = list(IMAGES.values())
    columns = {"jpg": data, "key": list("abcdefg"), "number": list(range(7))}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    assert list_images(path).table["image_id"].to_pylist() == list("abcdefg")
    by_number = list_images(path, id_column="number").table["image_id"].to_pylist()
    assert by_number == list("0123456")
    with pytest.raises(
        ValueError, match="has no column 'nosuch'; its columns are jpg, key, number"
    ):
        list_images(path, id_column="nosuch")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="has no column of image bytes"):
        list_images(str(tmp_path / "y.parquet"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_names_images_and_their_ids(tmp_path: Path, kind: str) -> None:
    (tmp_path / "train").mkdir()
    for name, data in IMAGES.items():
        (tmp_path / "train" / name).write_bytes(data)
    # Ids are not paths: nothing of them is cut off, and zeros stay.
    table = pa.table(
        {
            "image_id": [f"0{number}.x" for number in range(7)],
            "path": [f"train/{name}" for name in IMAGES],
            "caption": ["a dog, or a cat"] * 7,
        }
    )
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        options = pa_csv.WriteOptions(delimiter="," if kind == "csv" else "\t")
        pa_csv.write_csv(table, path, options)
    listing = list_images(str(path))
    assert listing.table["split"].unique().to_pylist() == ["train"]
    assert content(listing) == {f"0{number}.x": data for number, data in enumerate(IMAGES.values())}
    by_path = list_images(str(path), id_column="path").table["image_id"].to_pylist()
    assert by_path == [f"train/{name}" for name in IMAGES]


def test_a_table_that_names_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,number\na,1\n")
    with pytest.raises(ValueError, match=r"has no column of paths .* columns are text"):
        list_images(str(tmp_path / "x.csv"))
    (tmp_path / "y.csv").write_text("id,path\n1,a.jpg\n2,\n")
    with pytest.raises(ValueError, match=r"y\.csv: row 2 has no path"):
        list_images(str(tmp_path / "y.csv"))
    (tmp_path / "z.csv").write_text("path\nftp://x/a.jpg\n")
    with pytest.raises(ValueError, match="does not support ftp"):
        list_images(str(tmp_path / "z.csv"))


def failures(listing: Listing) -> dict[str, str]:
    found = {}
    for row in listing.table.to_pylist():
        try:
            data = read_image(listing.root, row["path"], row["place"])
            assert data == IMAGES[row["image_id"] + ".jpg"]
        except ImageError as error:
            found[row["image_id"]] = error.reason
    return found


@pytest.mark.parametrize("cut", [100, 512, 600, 1536, 3000])
def test_a_tar_that_is_cut_off_costs_only_what_is_missing(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "x.tar")
    os.truncate(path, 512 * (path.stat().st_size // 512) - 10240 - cut)
    listing = list_images(str(path))
    damage = failures(listing)
    whole = [one for one in listing.table["image_id"].to_pylist() if one not in damage]
    assert len(whole) >= 5
    # A missing member at the end leaves no trace.
    assert damage or listing.damaged or len(whole) == 6


def test_damage_in_the_middle_of_a_tar_is_a_failure(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar")
    data = bytearray(path.read_bytes())
    at = data.index(b"004.jpg")
    data[at : at + 512] = os.urandom(512)
    path.write_bytes(data)
    listing = list_images(str(path))
    assert failures(listing) == {}
    assert listing.table.num_rows == 4
    ((archive, problem),) = listing.damaged
    assert archive == "x.tar"
    assert "no header of a member begins there" in problem


def test_members_of_a_zip_fail_alone(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(IMAGES["002.jpg"]) + 5] ^= 1
    path.write_bytes(data)
    assert list(failures(list_images(str(path)))) == ["002"]
    with zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("000.jpg", IMAGES["000.jpg"])
        file.writestr("001.jpg", IMAGES["001.jpg"], zipfile.ZIP_STORED)
    assert "compression method 14" in failures(list_images(str(tmp_path / "y.zip")))["000"]
    encrypted = bytearray(write_zip(tmp_path / "z.zip").read_bytes())
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "z.zip").write_bytes(encrypted)
    assert "encrypted" in failures(list_images(str(tmp_path / "z.zip")))["000"]


def test_a_member_that_lies_about_its_size_does_not_fill_the_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("000.jpg", bytes(50_000_000))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 1000)
    (tmp_path / "x.zip").write_bytes(data)
    assert "damaged: 1,001 of 1,000 bytes" in failures(list_images(str(tmp_path / "x.zip")))["000"]
    assert len(zips._inflate(b"\x03\x00", 5)) == 0


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip", "x.parquet"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not an archive, just text that is long enough" * 30)
    with pytest.raises(ValueError, match=rf"{name}: the (archive|Parquet file) is damaged"):
        list_images(str(tmp_path / name))


def test_paths_out_of_an_archive_are_failures(tmp_path: Path) -> None:
    names = {"../../a.jpg": b"a", "/etc/b.jpg": b"b", "000.jpg": IMAGES["000.jpg"]}
    write_tar(tmp_path / "x.tar", images=names)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name, data in names.items():
            file.writestr(name, data)
    for name in ("x.tar", "x.zip"):
        damage = failures(list_images(str(tmp_path / name)))
        assert sorted(damage) == ["a", "b"]
        assert all("leads out of the archive" in reason for reason in damage.values())
