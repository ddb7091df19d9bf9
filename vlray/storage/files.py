"""Files on disk and in object storage, behind one ``pyarrow`` filesystem.

A *URI* is what a user writes (a local path, ``file://``, ``s3://`` or ``gs://``); a *path* is what
its filesystem wants. Whatever vlray writes goes through ``write_atomic``, or through
`vlray.settings.atomic` where a library writes the file itself and it is always local.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vlray.settings import atomic
from vlray.settings.atomic import TEMPORARY

if TYPE_CHECKING:
    from pyarrow import Buffer
    from pyarrow.fs import FileSystem

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_REMOTE = ("s3", "gs", "gcs")
_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def is_uri(text: str) -> bool:
    """Tell ``scheme://...`` from a local path."""
    return _SCHEME.match(text) is not None


def check_scheme(uri: str) -> None:
    """Refuse a URI that ``resolve`` cannot resolve, before anything is opened.

    Raises:
        ValueError: Its scheme is none of ours.
    """
    match = _SCHEME.match(uri)
    if match and match[1].lower() not in (*_REMOTE, "file"):
        raise ValueError(
            f"{uri!r} begins with {match[1]}://, which vlray does not read; "
            "give a local path, file://, s3:// or gs://"
        )


def resolve(uri: str | Path) -> tuple[FileSystem, str]:
    """Open the filesystem that a URI lives on.

    Args:
        uri: A local path (absolute, relative or with ``~``), ``file://``, ``s3://`` or ``gs://``.
            Options such as ``?endpoint_override=http://host:9000&region=...`` go to
            ``pyarrow.fs.S3FileSystem``, which also honours the environment's ``AWS_ENDPOINT_URL``,
            ``AWS_PROFILE`` and the other usual variables by itself.

    Returns:
        The filesystem, and the path on it: absolute for local files.

    Raises:
        ValueError: The URI is empty, of an unknown scheme or has unknown options.
        OSError: The bucket or its region cannot be found out.
    """
    from pyarrow.fs import LocalFileSystem

    text = os.fspath(uri)
    if not text:
        raise ValueError("the path is empty; give a local path, file://, s3:// or gs://")
    check_scheme(text)
    match = _SCHEME.match(text)
    if match is None:  # abspath, for resolve() follows links
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
    if match[1].lower() == "file":
        host, slash, path = text[match.end() :].partition("/")
        if host not in ("", "localhost"):
            raise ValueError(f"{text!r} names the host {host!r}; write file:///folder")
        return LocalFileSystem(), os.path.abspath(slash + unquote(path))  # noqa: PTH100 - as above
    plain, _, options = text.partition("?")
    bucket, _, key = plain[match.end() :].partition("/")
    if not bucket:
        raise ValueError(f"{text!r} names no bucket; write {match[0]}bucket/folder")
    environment = tuple(item for item in os.environ.items() if item[0].startswith("AWS_"))
    if match[1].lower() == "s3" and "allow_delayed_open" not in options:
        # A small object is then one request, and a killed writer leaves no unfinished upload of it.
        options += "&allow_delayed_open=true" if options else "allow_delayed_open=true"
    fs, top = _open_bucket(f"{match[0].lower()}{bucket}?{options}", environment)
    return fs, join(top, *filter(None, [unquote(key).strip("/")]))


@functools.lru_cache(maxsize=16)
def _open_bucket(uri: str, environment: tuple[tuple[str, str], ...]) -> tuple[FileSystem, str]:
    """Open a bucket once per process: each opening asks the network for its region.

    Args:
        uri: The bucket and the options, without a key.
        environment: What pyarrow reads by itself; another environment is another filesystem.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem

    try:
        with explained(uri.partition("?")[0]):
            return FileSystem.from_uri(uri)  # type: ignore[no-any-return] # pyarrow's
    except ArrowInvalid as error:
        raise ValueError(f"{uri!r} cannot be opened: {error}") from error


def is_local(fs: FileSystem) -> bool:
    """Tell local disks from object storage."""
    return bool(fs.type_name == "local")


def join(folder: str, *names: str) -> str:
    """Join a path and names below it with ``/``; an absolute name stands for itself."""
    return posixpath.join(folder, *names)


def parent(uri: str) -> tuple[str, str]:
    """Split a path, or a URI with its options kept on the folder, into folder and last name."""
    if not is_uri(uri):
        return posixpath.split(uri)
    plain, question_mark, options = uri.partition("?")
    folder, _, name = plain.rstrip("/").rpartition("/")
    return folder + question_mark + options, unquote(name)


def locate(root: str, path: str) -> tuple[FileSystem, str]:
    """Resolve a path of a listing: relative to ``root``, absolute, or a URI of its own.

    ``read_bytes(*locate(root, path))`` reads an image; buckets are opened once per process.
    """
    if is_uri(path) or path.startswith("/"):
        return resolve(path)
    fs, folder = resolve(root)
    found = join(folder, path)
    return fs, found if is_local(fs) else posixpath.normpath(found)  # buckets know no ".."


def read_bytes(fs: FileSystem, path: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: It is missing, unreadable, or its storage cannot be reached.
    """
    if not is_local(fs):
        with explained(_name(fs, path)), fs.open_input_file(path) as stream:
            return stream.read()  # type: ignore[no-any-return] # pyarrow's
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        restored = restore_bytes(path)
        if restored == path:
            raise
        return Path(restored).read_bytes()


def escape_bytes(name: str) -> str:
    r"""Spell bytes of a file's name that are not UTF-8 as ``\xe9``, so that Arrow can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def restore_bytes(name: str) -> str:
    """Undo ``escape_bytes``."""
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), name)


def write_atomic(fs: FileSystem, path: str, data: bytes | memoryview | Buffer) -> None:
    """Write a file that appears whole or not at all; an older one of its name is replaced.

    On a local disk: a hidden temporary file in the same folder, synced, then renamed. In object
    storage: one upload, begun when all of its bytes are at hand and finished or given up before
    this returns; an object appears when its upload is complete. Of a large one that was given up,
    the storage may keep invisible parts: let a lifecycle rule of the bucket abort them.

    Raises:
        OSError: The disk is full, the folder is not writable, or the storage cannot be reached.
    """
    if is_local(fs):
        atomic.write(Path(path), data)
        return

    def upload() -> None:
        # compression=None: pyarrow would otherwise compress what is named .gz or .zst.
        name = _name(fs, path)
        with explained(name), fs.open_output_stream(path, compression=None) as stream:
            stream.write(data)

    # Closing a stream publishes what it holds, also when an exception leaves the block: a Ctrl-C
    # between open and write would leave an empty object. Signals only reach the main thread.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(upload).result()


def list_names(fs: FileSystem, folder: str) -> dict[str, int]:
    """List the files of one folder, without those below it and without unfinished ones.

    Returns:
        Size in bytes by name, sorted by name; empty where there is no such folder.
    """
    from pyarrow.fs import FileSelector, FileType

    with explained(_name(fs, folder)):
        found = fs.get_file_info(FileSelector(folder, allow_not_found=True))
    sizes = {info.base_name: info.size for info in found if info.type == FileType.File}
    return {name: sizes[name] for name in sorted(sizes) if not name.startswith(TEMPORARY)}


def remove(fs: FileSystem, path: str) -> None:
    """Delete a file; fine where it is gone already."""
    with explained(_name(fs, path)), contextlib.suppress(FileNotFoundError):
        fs.delete_file(path)


def remove_temporaries(fs: FileSystem, folder: str) -> int:
    """Delete what killed writers left in a local folder and below it, and count it.

    Only for a time when nobody writes there. Object storage keeps no unfinished files to see.
    """
    if not is_local(fs):
        return 0
    stale = list(Path(folder).rglob(f"{TEMPORARY}*"))
    for file in stale:
        file.unlink(missing_ok=True)
    return len(stale)


def _name(fs: FileSystem, path: str) -> str:
    return path if is_local(fs) else f"{fs.type_name}://{path}"


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn the object store's error codes into errors that name the URI and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # the operating system's own, which name the file
            raise
        text = str(error)
        for code, kind, advice in _ADVICE:
            if re.search(code, text):
                raise kind(f"{uri}: {advice} ({text})") from error
        raise OSError(f"{uri}: {text}") from error


_ADVICE: tuple[tuple[str, type[OSError], str], ...] = (
    ("NO_SUCH_BUCKET|[Bb]ucket.*not (exist|found)", FileNotFoundError, "there is no such bucket"),
    (
        "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID"
        "|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|HTTP status (401|403)"
        "|PermissionDenied|Unauthenticated",
        PermissionError,
        "access is denied; check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, "
        "GOOGLE_APPLICATION_CREDENTIALS) and the bucket's policy",
    ),
    (
        "NETWORK_CONNECTION|Could not (connect|resolve)|Connection refused",
        ConnectionError,
        "the storage cannot be reached; check the network, AWS_ENDPOINT_URL and the region",
    ),
)
