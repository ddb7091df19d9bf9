"""URIs resolve, files appear whole or not at all, errors name what and where."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem

from vlray.settings import atomic
from vlray.storage import files
from vlray.storage.locks import LockFileError, build_once

LOCAL = LocalFileSystem()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# --- names


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    for uri, expected in {
        "a/../b c": f"{tmp_path}/b c",
        "~/x": "/home/someone/x",
        "/a//b/": "/a/b",
        "100%41.jpg": f"{tmp_path}/100%41.jpg",
        "file:///a/b%20c": "/a/b c",
        "file://localhost/a": "/a",
        "C:/x": f"{tmp_path}/C:/x",
    }.items():
        fs, path = files.resolve(uri)
        assert files.is_local(fs)
        assert path == expected
    assert files.resolve(Path("a"))[1] == f"{tmp_path}/a"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "the path is empty; pass a local path"),
        ("ftp://x.org/a.jpg", "vlray does not support ftp://; pass a local path"),
        ("s3:///key", r"does not name a bucket; write s3://bucket/folder"),
        ("file://server/x", "contains the host 'server', .*; write file:///folder"),
        ("s3://bucket/x?nonsense=1", "cannot be opened: Unexpected query parameter .* 'nonsense'"),
    ],
)
def test_a_uri_that_cannot_be_resolved_is_named(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        files.resolve(uri)


def test_keys_may_have_spaces_unicode_percent_signs_and_options(s3_server: str) -> None:
    for uri, expected in {
        "s3://bucket": "bucket",
        "s3://bucket/": "bucket",
        "s3://bucket/a b/\u00e9.jpg": "bucket/a b/\u00e9.jpg",
        "s3://bucket/a%20b/c%3Fd": "bucket/a b/c?d",
        "s3://bucket/100%/#1/": "bucket/100%/#1",
        "S3://bucket/x?region=eu-west-1": "bucket/x",
        f"s3://bucket/x?endpoint_override={s3_server}&scheme=http": "bucket/x",
    }.items():
        fs, path = files.resolve(uri)
        assert fs.type_name == "s3"
        assert path == expected


def test_google_storage_resolves_without_a_network() -> None:
    fs, path = files.resolve("gs://anonymous@bucket/a b")
    assert (fs.type_name, path) == ("gcs", "bucket/a b")
    assert not files.is_local(fs)


def test_the_environment_or_an_option_names_the_server(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, path = files.resolve(bucket)
    files.write_atomic(fs, path + "/x", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    fs, path = files.resolve(f"{bucket}/x?endpoint_override={s3_server}")
    assert files.read_bytes(fs, path) == b"1"


def test_a_bucket_is_opened_once(bucket: str) -> None:
    assert files.resolve(f"{bucket}/a")[0] is files.resolve(f"{bucket}/b/c")[0]


def test_folder_and_name_come_apart() -> None:
    assert files.parent("/a/b.txt") == ("/a", "b.txt")
    assert files.parent("s3://b/a/c%20d.txt?x=1") == ("s3://b/a?x=1", "c d.txt")
    assert files.join("/a", "b", "c") == "/a/b/c"


# --- writing on a disk


@pytest.mark.parametrize("data", [b"", b"data", memoryview(b"data"), pa.py_buffer(b"data")])
def test_a_file_is_written_with_its_folder(tmp_path: Path, data: bytes) -> None:
    path = str(tmp_path / "new" / "er" / "x.parquet")
    files.write_atomic(LOCAL, path, data)
    assert everything(tmp_path) == {"new/er/x.parquet": bytes(data)}
    files.write_atomic(LOCAL, path, b"newer")
    assert files.read_bytes(LOCAL, path) == b"newer"


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    files.write_atomic(LOCAL, str(tmp_path / "ours"), b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    files.write_atomic(LOCAL, path, b"old")
    with pytest.raises(TypeError):
        files.write_atomic(LOCAL, path, "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(LOCAL, str(tmp_path / "folder"), b"new")
    assert everything(tmp_path) == {"x": b"old"}


@pytest.fixture
def full_disk(small_disk: Path) -> Path:
    """A disk of 64 KiB that holds 40 KB already."""
    (small_disk / "x").write_bytes(b"old" + bytes(40_000))
    return small_disk


def test_a_full_disk_keeps_the_old_file_and_says_so(full_disk: Path) -> None:
    before = everything(full_disk)
    with pytest.raises(OSError, match=r"No space left on device: .*/disk/x") as caught:
        files.write_atomic(LOCAL, str(full_disk / "x"), bytes(50_000))
    assert caught.value.errno == errno.ENOSPC
    assert everything(full_disk) == before
    files.write_atomic(LOCAL, str(full_disk / "y"), bytes(10_000))  # there is room for a small one


@pytest.mark.usefixtures("processes")
def test_a_writer_that_is_killed_leaves_whole_files_only(tmp_path: Path) -> None:
    program = (
        "import sys; from pyarrow.fs import LocalFileSystem; from vlray.storage import files\n"
        "for n in range(10**6):\n"
        "    files.write_atomic(LocalFileSystem(), sys.argv[1], bytes([n % 256]) * 300_000)\n"
        "    print(flush=True)"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "x")], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        data = (tmp_path / "x").read_bytes()
        assert len(data) == 300_000
        assert len(set(data)) == 1
    assert files.list_names(LOCAL, str(tmp_path)) == {"x": 300_000}
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".tmp-0123").write_bytes(b"half")
    assert files.remove_temporaries(LOCAL, str(tmp_path)) >= 1
    assert everything(tmp_path).keys() == {"x"}


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    writers = [
        threading.Thread(target=files.write_atomic, args=(LOCAL, path, bytes([n]) * 100_000))
        for n in range(16)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(files.read_bytes(LOCAL, path))) == 1
    assert everything(tmp_path).keys() == {"x"}


# --- reading, listing, removing on a disk


def test_only_the_finished_files_of_one_folder_are_listed(tmp_path: Path) -> None:
    for name in ("b", "a b", "\u00e9", ".hidden", ".tmp-0123", "below/c"):
        files.write_atomic(LOCAL, str(tmp_path / name), name.encode())
    listed = files.list_names(LOCAL, str(tmp_path))
    assert list(listed.items()) == [(".hidden", 7), ("a b", 3), ("b", 1), ("\u00e9", 2)]
    assert files.list_names(LOCAL, str(tmp_path / "nowhere")) == {}


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    files.write_atomic(LOCAL, str(tmp_path / "x"), b"")
    files.remove(LOCAL, str(tmp_path / "x"))
    files.remove(LOCAL, str(tmp_path / "x"))
    assert files.list_names(LOCAL, str(tmp_path)) == {}


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        files.read_bytes(LOCAL, str(tmp_path / "nowhere.jpg"))


# --- object storage


def test_an_object_is_written_read_listed_and_removed(bucket: str) -> None:
    fs, folder = files.resolve(bucket)
    assert files.list_names(fs, folder) == {}
    large = os.urandom(12_000_000)  # more than one part of an upload
    files.write_atomic(fs, f"{folder}/a b.gz", b"not compressed by the name")
    files.write_atomic(fs, f"{folder}/large", pa.py_buffer(large))
    files.write_atomic(fs, f"{folder}/below/c", b"")
    assert files.list_names(fs, folder) == {"a b.gz": 26, "large": 12_000_000}
    assert files.read_bytes(fs, f"{folder}/a b.gz") == b"not compressed by the name"
    assert files.read_bytes(fs, f"{folder}/large") == large
    assert files.remove_temporaries(fs, folder) == 0
    files.remove(fs, f"{folder}/large")
    files.remove(fs, f"{folder}/large")
    assert files.list_names(fs, folder) == {"a b.gz": 26}
    with pytest.raises(FileNotFoundError, match="large"):
        files.read_bytes(fs, f"{folder}/large")


@pytest.fixture
def failing_server(s3_server: str) -> Iterator[str]:
    program = Path(__file__).with_name("failing_proxy.py")
    with subprocess.Popen(
        [sys.executable, str(program), s3_server], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def test_an_upload_that_fails_midway_publishes_nothing(bucket: str, failing_server: str) -> None:
    fs, folder = files.resolve(bucket)
    files.write_atomic(fs, f"{folder}/x", b"old")
    through, _ = files.resolve(f"{bucket}?endpoint_override={failing_server}")
    for name in ("x", "y"):
        with pytest.raises(PermissionError, match=f"s3://.*/{name}: access is denied; check the"):
            files.write_atomic(through, f"{folder}/{name}", bytes(25_000_000))
    assert files.list_names(fs, folder) == {"x": 3}
    assert files.read_bytes(fs, f"{folder}/x") == b"old"


def test_a_ctrl_c_during_an_upload_leaves_all_of_it_or_nothing(bucket: str, s3_server: str) -> None:
    program = (
        "import sys; from vlray import files\n"
        "fs, folder = files.resolve(sys.argv[1])\n"
        "print(flush=True)\n"
        "for n in range(10**6):\n"
        "    files.write_atomic(fs, f'{folder}/{n % 3}', bytes([n % 256]) * 6_000_000)"
    )
    fs, folder = files.resolve(bucket)
    for wait in (0.0, 0.05, 0.2, 0.31):
        with subprocess.Popen(
            [sys.executable, "-c", program, bucket], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            process.communicate()
        assert process.returncode
        for name in files.list_names(fs, folder):
            data = files.read_bytes(fs, f"{folder}/{name}")
            assert (len(data), len(set(data))) == (6_000_000, 1)


def test_a_bucket_that_is_not_there_is_named(s3_server: str) -> None:
    fs, folder = files.resolve("s3://no-such-bucket/out")
    with pytest.raises(
        FileNotFoundError, match="s3://no-such-bucket/out/x: the bucket does not exist"
    ):
        files.write_atomic(fs, f"{folder}/x", b"")


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, folder = files.resolve("s3://bucket/out?endpoint_override=http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="s3://bucket/out: the storage cannot be reached"):
        files.list_names(fs, folder)


def test_a_folder_or_a_link_replaces_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic.replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
        with atomic.replacing(tmp_path / "link") as temporary:
            temporary.symlink_to(content)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert (tmp_path / "link").readlink() == Path("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_what_a_killed_process_left_is_replaced_by_the_one_that_holds_the_lock(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    (tmp_path / f"{files.TEMPORARY}file").write_bytes(b"half of it")
    with atomic.replacing(path, exclusive=True) as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"whole")
    assert everything(tmp_path) == {"file": b"whole"}


def test_a_missing_file_is_built_by_one_of_several(tmp_path: Path) -> None:
    built = []

    def build(path: Path) -> None:
        time.sleep(0.05)
        path.write_bytes(b"built")
        built.append(path)

    path = tmp_path / "folder" / "file"
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: build_once(path, build), range(4))) == [path] * 4
    assert len(built) == 1
    assert path.read_bytes() == b"built"


def test_a_folder_that_cannot_be_made_is_told_from_a_build_that_fails(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        raise OSError("the build's own")

    (tmp_path / "file").write_text("")
    with pytest.raises(LockFileError):
        build_once(tmp_path / "file" / "below", build)
    with pytest.raises(OSError, match="own") as error:
        build_once(tmp_path / "built", build)
    assert not isinstance(error.value, LockFileError)
