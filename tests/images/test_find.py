"""A directory, a list file, one image or a bucket becomes a listing, always the same."""

from __future__ import annotations

import codecs
import os
import random
from pathlib import Path

import pytest

from vlray.images.find import list_images
from vlray.images.listing import LISTING, Listing
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import ABSENT, Fingerprint


def make(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode("utf-8", "surrogateescape"))
    return root


def paths(listing: Listing) -> list[str]:
    return listing.table["path"].to_pylist()


def fingerprints(listing: Listing) -> dict[str, Fingerprint]:
    columns = [listing.table[name].to_pylist() for name in ("path", "file_bytes", "mtime_ns")]
    return {path: Fingerprint(*one) for path, *one in zip(*columns, strict=True)}


def splits(listing: Listing) -> dict[str, str]:
    return dict(zip(paths(listing), listing.table["split"].to_pylist(), strict=True))


# --- directories


def test_a_directory_is_listed_with_everything_below_it(tmp_path: Path) -> None:
    names = [
        "a.jpg",
        "B.JPG",
        "_x.png",
        "deep/er/a b.webp",
        "deep/\u00e9t\u00e9 \u732b.TIFF",
        "z.jpeg",
    ]
    other = [
        ".hidden.jpg",
        ".git/x.jpg",
        "deep/.ds/x.jpg",
        "notes.txt",
        "x.TXT",
        "README",
        "a.jpg.part",
    ]
    listing = list_images(str(make(tmp_path / "my photos", *names, *other)))
    assert paths(listing) == sorted(names)
    assert listing.root == str(tmp_path / "my photos")
    assert listing.dataset == "my photos"
    assert listing.table.schema == LISTING
    assert set(splits(listing).values()) == {"all"}
    assert listing.skipped == {".txt": 2, "": 1, ".part": 1}
    for path in names:
        assert files.read_bytes(*files.locate(listing.root, path)) == path.encode()


def test_the_order_is_that_of_code_points_whatever_the_disk_says(tmp_path: Path) -> None:
    names = [
        f"{a}{b}.jpg" for a in ("a", "B", "-", "_", "\u00e9", "\U0001f600", "\uffee") for b in "zA0"
    ]
    random.Random(0).shuffle(names)
    listing = list_images(str(make(tmp_path, *names, "a/b.jpg", "a-b.jpg")))
    assert paths(listing) == sorted([*names, "a/b.jpg", "a-b.jpg"])
    assert listing.table.sort_by("path")["path"].to_pylist() == paths(listing)


def test_every_common_extension_counts(tmp_path: Path) -> None:
    kinds = ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "tif", "tiff", "avif"]
    kinds += ["ppm", "pgm", "pbm", "pnm", "jp2", "JPG", "Jpeg", "PNG"]
    make(tmp_path, *(f"{kind}{index}.{kind}" for index, kind in enumerate(kinds)))
    assert list_images(str(tmp_path)).table.num_rows == len(kinds)


def test_a_folder_that_is_called_like_an_image_is_a_folder(tmp_path: Path) -> None:
    assert paths(list_images(str(make(tmp_path, "a.jpg/b.jpg")))) == ["a.jpg/b.jpg"]


def test_a_relative_root_and_a_file_uri_mean_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a b", "x.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("a b", "./a b/", "~/a b", f"file://{tmp_path}/a%20b"):
        listing = list_images(root)
        assert (listing.root, listing.dataset) == (str(tmp_path / "a b"), "a b")
        assert paths(listing) == ["x.jpg"]


def test_links_to_folders_are_entered_once_and_never_in_circles(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/1.jpg", "b/2.jpg")
    make(tmp_path / "outside", "deep/3.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(".")
    (root / "a" / "b").symlink_to(root / "b")
    (root / "b" / "a").symlink_to(root / "a")
    (root / "outside").symlink_to(tmp_path / "outside")
    (root / "4.jpg").symlink_to(root / "a" / "1.jpg")
    listing = list_images(str(root), id_rule="path")
    assert paths(listing) == [
        *("4.jpg", "a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg", "outside/deep/3.jpg"),
    ]
    listing = list_images(str(root), follow_symlinks=False)
    assert paths(listing) == ["4.jpg", "a/1.jpg", "b/2.jpg"]


def test_a_linked_root_is_entered_even_so(tmp_path: Path) -> None:
    make(tmp_path / "real", "1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    listing = list_images(str(tmp_path / "link"), follow_symlinks=False)
    assert (paths(listing), listing.dataset) == (["1.jpg"], "link")


def test_a_broken_link_is_listed_and_a_pipe_is_not(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    listing = list_images(str(tmp_path))
    assert paths(listing) == ["gone.jpg"]
    assert fingerprints(listing) == {"gone.jpg": ABSENT}


def test_names_that_are_not_utf8_are_spelled_and_found_again(tmp_path: Path) -> None:
    names = [
        b"caf\xe9/\xff.jpg",
        b"caf\xe9/plain.jpg",
        b"lit\\xe9ral.jpg",
        "d\u00e9j\u00e0.jpg".encode(),
    ]
    for name in names:
        make(tmp_path, os.fsdecode(name))
    listing = list_images(str(tmp_path))
    expected = [r"caf\xe9/\xff.jpg", r"caf\xe9/plain.jpg", r"lit\xe9ral.jpg", "d\u00e9j\u00e0.jpg"]
    assert paths(listing) == sorted(expected)
    read = {files.read_bytes(*files.locate(listing.root, path)) for path in expected}
    assert read == set(names)


def test_a_split_folder_that_is_not_utf8_elsewhere_is_still_walked(tmp_path: Path) -> None:
    make(tmp_path, os.fsdecode(b"train/\xe9/1.jpg"), "val/2.jpg")
    assert paths(list_images(str(tmp_path), split=("train",))) == [r"train/\xe9/1.jpg"]


def test_the_output_inside_the_root_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg", "out/gallery/2.jpg", "out2/3.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    listing = list_images(str(tmp_path), leave_out=str(tmp_path / "out"))
    assert paths(listing) == ["1.jpg", "out2/3.jpg"]
    assert list_images(str(tmp_path), leave_out=str(tmp_path), id_rule="path").table.num_rows == 4
    listing = list_images(str(tmp_path), leave_out=str(tmp_path / "not made yet"), id_rule="path")
    assert listing.table.num_rows == 4


def test_nothing_there_is_refused_saying_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images in .*: it has no files at all; images end in"):
        list_images(str(tmp_path))
    make(tmp_path, "a.txt", "b.txt", "c.mp4", "Makefile")
    with pytest.raises(ValueError, match=r"4 other files \(2 \.txt, 1 .*\); images end in .*\.jpg"):
        list_images(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; pass a directory"):
        list_images(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"c\.mp4 is not a directory, an image .* or a list file"):
        list_images(str(tmp_path / "c.mp4"))


def test_two_files_with_one_id_are_refused_before_any_work(tmp_path: Path) -> None:
    make(tmp_path, "train/1.jpg", "val/1.jpg")
    with pytest.raises(
        ValueError, match=r"'train/1.jpg' and 'val/1.jpg' both get the image id '1'"
    ):
        list_images(str(tmp_path))
    assert list_images(str(tmp_path), split=("val",)).table.num_rows == 1


# --- splits


def test_top_level_split_folders_give_the_split(tmp_path: Path) -> None:
    make(tmp_path, "train2017/a.jpg", "val/b.jpg", "Test1/c.jpg", "extra/train/d.jpg", "e.jpg")
    make(tmp_path, "training/f.jpg", "train-dev/g.jpg", "validation/x/h.jpg")
    expected = {
        "train2017/a.jpg": "train2017",
        "val/b.jpg": "val",
        "Test1/c.jpg": "Test1",
        "extra/train/d.jpg": "all",
        "e.jpg": "all",
        "training/f.jpg": "all",
        "train-dev/g.jpg": "all",
        "validation/x/h.jpg": "validation",
    }
    assert splits(list_images(str(tmp_path))) == expected


def test_splits_are_selected_by_name_or_by_how_a_single_one_begins(tmp_path: Path) -> None:
    make(tmp_path, "train2017/a.jpg", "val2014/b.jpg", "val2017/c.jpg", "d.jpg")
    assert splits(list_images(str(tmp_path), split=("train",))) == {"train2017/a.jpg": "train2017"}
    chosen = list_images(str(tmp_path), split=("val2017", "train2017"))
    assert paths(chosen) == ["train2017/a.jpg", "val2017/c.jpg"]
    with pytest.raises(ValueError, match=r"split 'val' is ambiguous \(val2014, val2017\)"):
        list_images(str(tmp_path), split=("val",))
    with pytest.raises(
        ValueError,
        match=r"split 'dev' does not exist; the split folders are train2017, val2014, val2017",
    ):
        list_images(str(tmp_path), split=("train", "dev"))
    with pytest.raises(ValueError, match=r"split '' does not exist"):
        list_images(str(tmp_path), split=("",))


def test_an_exact_name_wins_over_a_beginning(tmp_path: Path) -> None:
    make(tmp_path, "val/a.jpg", "validation/b.jpg")
    assert paths(list_images(str(tmp_path), split=("val",))) == ["val/a.jpg"]


def test_without_split_folders_one_name_is_the_split_of_all(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b/c.jpg")
    assert set(splits(list_images(str(tmp_path), split=("minival",))).values()) == {"minival"}
    with pytest.raises(
        ValueError, match=r"train, val are requested, but there are no split folders"
    ):
        list_images(str(tmp_path), split=("train", "val"))


def test_a_split_without_images_is_named(tmp_path: Path) -> None:
    make(tmp_path, "train/a.jpg", "val/b.txt")
    with pytest.raises(ValueError, match=r"no images in .* \(val\): it has 1 other files"):
        list_images(str(tmp_path), split=("val",))


# --- list files and single images


def write_list(folder: Path, text: bytes | str, name: str = "some.txt") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return str(folder / name)


def test_a_list_file_names_images_relative_to_its_folder(tmp_path: Path) -> None:
    text = "b.jpg\n\n  \nsub/a b.PNG\n../up.jpg\n/abs/x.gif\ns3://bucket/y.jpg\nodd.dat\n #1.jpg\n"
    listing = list_images(write_list(tmp_path / "lists", text))
    expected = [
        "b.jpg",
        "sub/a b.PNG",
        "../up.jpg",
        "/abs/x.gif",
        "s3://bucket/y.jpg",
        "odd.dat",
        " #1.jpg",
    ]
    assert paths(listing) == sorted(expected)
    assert (listing.root, listing.dataset) == (str(tmp_path / "lists"), "some")
    assert listing.table["image_id"].to_pylist() == [" #1", "up", "x", "b", "odd", "y", "a b"]


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg\r\n\xc3\xa9.jpg\r\n",
        codecs.BOM_UTF8 + b"a.jpg\n\xc3\xa9.jpg",
        "a.jpg\r\n\u00e9.jpg\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "a.jpg\n\u00e9.jpg".encode("utf-16-be"),
    ],
    ids=["CRLF", "UTF-8 with a mark", "UTF-16 as PowerShell writes it", "big-endian UTF-16"],
)
def test_lists_of_other_systems_are_read(tmp_path: Path, data: bytes) -> None:
    assert paths(list_images(write_list(tmp_path, data))) == ["a.jpg", "\u00e9.jpg"]


def test_a_line_that_is_not_utf8_finds_its_file(tmp_path: Path) -> None:
    make(tmp_path, os.fsdecode(b"caf\xe9.jpg"))
    listing = list_images(write_list(tmp_path, b"caf\xe9.jpg\n"))
    assert paths(listing) == [r"caf\xe9.jpg"]
    assert files.read_bytes(*files.locate(listing.root, r"caf\xe9.jpg")) == b"caf\xe9.jpg"


@pytest.mark.parametrize("again", ["a.jpg", "./a.jpg", "x/../a.jpg", "{folder}/a.jpg"])
def test_an_image_that_is_listed_twice_is_refused_naming_the_lines(
    tmp_path: Path, again: str
) -> None:
    root = write_list(tmp_path, f"a.jpg\n\nb.jpg\n{again.format(folder=tmp_path)}\n")
    with pytest.raises(ValueError, match=r"line 4 names 'a.jpg' again, after line 1"):
        list_images(root)


def test_a_listed_uri_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vlray does not support ftp://"):
        list_images(write_list(tmp_path, "a.jpg\nftp://x.org/b.jpg\n"))


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images in"):
        list_images(write_list(tmp_path, "\n\n"))


def test_a_list_has_splits_too(tmp_path: Path) -> None:
    root = write_list(tmp_path, "train/a.jpg\nval/b.jpg\nc.jpg\n/abs/train/d.jpg\n", "x.lst")
    assert list(splits(list_images(root)).values()) == ["all", "all", "train", "val"]
    assert paths(list_images(root, split=("train",))) == ["train/a.jpg"]


def test_one_image_is_a_listing_of_one(tmp_path: Path) -> None:
    listing = list_images(str(make(tmp_path, "a b.JPG") / "a b.JPG"), split=("demo",))
    assert (listing.root, listing.dataset) == (str(tmp_path), "a b")
    row = {"image_id": "a b", "path": "a b.JPG", "split": "demo", "file_bytes": 7, "place": None}
    assert listing.table.drop("mtime_ns").to_pylist() == [row]


def test_real_coco_images_get_the_ids_of_their_annotations(shared: Path) -> None:
    listing = list_images(str(shared / "fixtures" / "coco_mini"), id_rule="coco", split=("val",))
    assert listing.table.num_rows == 281
    assert set(listing.table["split"].to_pylist()) == {"val2017"}
    assert listing.table["image_id"].to_pylist()[0].isdigit()
    assert not any(name.startswith("0") for name in listing.table["image_id"].to_pylist())


# --- object storage


def test_a_bucket_is_listed_like_a_directory(bucket: str, tmp_path: Path) -> None:
    names = [
        "train/a b.jpg",
        "train/\u00e9.PNG",
        "val/100%.jpg",
        "val/deep/er/x.webp",
        "z.gif",
        "notes.txt",
    ]
    hidden = [".git/x.jpg", "val/.hidden/x.jpg", "val/.x.jpg"]
    fs, path = files.resolve(bucket)
    make(tmp_path, *names, *hidden)
    for name in names + hidden:
        files.write_atomic(fs, f"{path}/{name}", name.encode())
    fs.create_dir(f"{path}/train2.jpg")
    remote, local = list_images(bucket), list_images(str(tmp_path))
    assert remote.table.drop("mtime_ns") == local.table.drop("mtime_ns")
    assert min(remote.table["mtime_ns"].to_pylist()) > 10**18  # of an upload, today
    assert remote.skipped == local.skipped
    assert remote.root == bucket
    for path in paths(remote):
        assert files.read_bytes(*files.locate(remote.root, path)) == path.encode()
    assert paths(list_images(bucket, split=("val",))) == paths(
        list_images(str(tmp_path), split=("val",))
    )
    left = list_images(bucket, leave_out=files.join(bucket, "val", "deep"))
    assert "val/deep/er/x.webp" not in paths(left)
    assert left.table.num_rows == remote.table.num_rows - 1
    assert list_images(bucket, leave_out=bucket).table == remote.table


def test_a_long_list_of_a_bucket_asks_for_no_single_object(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, path = files.resolve(bucket)
    for name in ("a 1%.jpg", "b.jpg"):
        files.write_atomic(fs, f"{path}/all/{name}", name.encode())
    lines = ["all/a 1%.jpg", "all/b.jpg", "all/gone.jpg", f"{bucket}/all/c.jpg"]
    files.write_atomic(fs, f"{path}/some.txt", "\n".join(lines).encode())
    one_by_one = fingerprints(list_images(f"{bucket}/some.txt"))
    monkeypatch.setattr(fingerprint, "CHUNK", 1)
    assert fingerprints(list_images(f"{bucket}/some.txt")) == one_by_one
    sizes = [one_by_one[line].file_bytes for line in lines]
    assert sizes == [8, 5, -1, -1]


@pytest.mark.usefixtures("s3_server")
def test_images_of_a_list_may_be_in_a_bucket_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    root = write_list(tmp_path, "a.jpg\ns3://no-such-bucket/x.jpg\n")
    listing = list_images(root)
    assert [one.file_bytes for one in fingerprints(listing).values()] == [3, -1]


def test_a_list_file_and_an_image_in_a_bucket(bucket: str) -> None:
    fs, path = files.resolve(bucket)
    files.write_atomic(fs, f"{path}/lists/some.txt", b"../x/a.jpg\nb.jpg\n")
    files.write_atomic(fs, f"{path}/x/a.jpg", b"a")
    listing = list_images(f"{bucket}/lists/some.txt")
    assert (listing.root, listing.dataset) == (f"{bucket}/lists", "some")
    assert paths(listing) == ["../x/a.jpg", "b.jpg"]
    assert files.read_bytes(*files.locate(listing.root, "../x/a.jpg")) == b"a"
    sizes = listing.table["file_bytes"].to_pylist()
    assert sizes == [1, -1]
    assert fingerprints(listing)["b.jpg"] == ABSENT
    listing = list_images(f"{bucket}/x/a.jpg")
    assert (listing.root, paths(listing)) == (f"{bucket}/x", ["a.jpg"])


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://no-such-bucket"):
        list_images("s3://no-such-bucket/x")
