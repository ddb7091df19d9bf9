"""Files on disk and in object storage, behind one ``pyarrow`` filesystem.

A *URI* is the user's notation (a local path, ``file://``, ``s3://``, ...); a *path* is the notation
of the filesystem. vlray writes all files through ``write_atomic``, or through
`vlray.settings.atomic` for local files that a library writes itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vlray.settings import atomic
from vlray.settings.atomic import TEMPORARY
from vlray.settings.secrets import has_credentials, redact
from vlray.storage.errors import explained as explained

if TYPE_CHECKING:
    from pyarrow import Buffer
    from pyarrow.fs import FileSystem

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BUCKETS = ("s3", "gs", "gcs")
_WEB = ("http", "https")  # read only
_PACKAGES = ("az", "abfs", "abfss", "hf")  # of `vlray.storage.packages`; read only
_SUPPORTED = "pass a local path, file://, s3://, gs://, az://, hf://, http:// or https://"
_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def is_uri(text: str) -> bool:
    """Return whether a text is ``scheme://...`` and not a local path."""
    return _SCHEME.match(text) is not None


def check_scheme(uri: str) -> None:
    """Check that ``resolve`` supports the scheme of a URI, without opening anything.

    Raises:
        ValueError: The scheme is not supported, or the URI has credentials.
    """
    if has_credentials(uri):
        raise ValueError(
            f"{redact(uri)}: credentials in a URI would be written to logs and outputs; use "
            "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3://), or "
            "GOOGLE_APPLICATION_CREDENTIALS (gs://), or download the files (http://)"
        )
    match = _SCHEME.match(uri)
    if match and match[1].lower() not in (*_BUCKETS, *_WEB, *_PACKAGES, "file"):
        raise ValueError(f"{uri!r}: vlray does not support {match[1]}://; {_SUPPORTED}")


def check_listed(uri: str) -> None:
    """Check the URI of an image, which the rows of an output will store, like `check_scheme`.

    Raises:
        ValueError: The scheme is not supported, or the URI has credentials or a token.
    """
    check_scheme(uri)
    if redact(uri) != uri:
        raise ValueError(
            f"{redact(uri)}: the rows of the output would store the token of this URI; list URIs "
            "without tokens, or download the images"
        )


def is_read_only(uri: str) -> bool:
    """Return whether vlray only reads from the storage of a URI."""
    match = _SCHEME.match(uri)
    return match is not None and match[1].lower() in (*_WEB, *_PACKAGES)


def resolve(uri: str | Path) -> tuple[FileSystem, str]:
    """Open the filesystem of a URI.

    Args:
        uri: A local path (absolute, relative or with ``~``), ``file://``, ``s3://``, ``gs://``,
            ``http(s)://``, or ``az://`` and ``hf://``, whose packages have to be installed.
            Options of ``s3://`` such as ``?endpoint_override=http://host:9000&region=...`` go to
            ``pyarrow.fs.S3FileSystem``, which also reads ``AWS_ENDPOINT_URL``, ``AWS_PROFILE`` and
            the other usual environment variables.

    Returns:
        The filesystem, and the path on it: absolute for local files.

    Raises:
        ValueError: The URI is empty, or its scheme or an option is unknown.
        OSError: The bucket or its region cannot be determined.
    """
    from pyarrow.fs import LocalFileSystem

    text = os.fspath(uri)
    if not text:
        raise ValueError(f"the path is empty; {_SUPPORTED}")
    check_scheme(text)
    match = _SCHEME.match(text)
    if match is None:  # abspath, because resolve() follows links
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
    if match[1].lower() == "file":
        host, slash, path = text[match.end() :].partition("/")
        if host not in ("", "localhost"):
            raise ValueError(
                f"{text!r} contains the host {host!r}, which vlray does not support; write "
                "file:///folder"
            )
        return LocalFileSystem(), os.path.abspath(slash + unquote(path))  # noqa: PTH100 - same reason
    plain, _, options = text.partition("?")
    bucket, _, key = plain[match.end() :].partition("/")
    if not bucket:
        raise ValueError(f"{text!r} does not name a bucket; write {match[0]}bucket/folder")
    scheme, path = match[1].lower(), join(bucket, *filter(None, [unquote(key).strip("/")]))
    if scheme in _WEB:
        from vlray.storage.web import open_web

        return open_web(scheme, options), path
    if scheme in _PACKAGES:
        from vlray.storage.packages import open_package

        return open_package(scheme), path
    environment = tuple(item for item in os.environ.items() if item[0].startswith("AWS_"))
    if match[1].lower() == "s3" and "allow_delayed_open" not in options:
        # Delayed opening saves requests for small objects, and leaves no open upload after a kill.
        options += "&allow_delayed_open=true" if options else "allow_delayed_open=true"
    fs, top = _open_bucket(f"{match[0].lower()}{bucket}?{options}", environment)
    return fs, join(top, *filter(None, [unquote(key).strip("/")]))


@functools.lru_cache(maxsize=16)
def _open_bucket(uri: str, environment: tuple[tuple[str, str], ...]) -> tuple[FileSystem, str]:
    """Open a bucket once per process, because this requests its region over the network.

    Args:
        uri: Bucket and options, without a key.
        environment: ``AWS_*`` variables that pyarrow reads; part of the cache key.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem

    try:
        with explained(uri.partition("?")[0]):
            return FileSystem.from_uri(uri)  # type: ignore[no-any-return] # pyarrow's
    except ArrowInvalid as error:
        # Arrow's message repeats the URI.
        raise ValueError(f"{redact(uri)!r} cannot be opened: {redact(str(error))}") from None


def is_local(fs: FileSystem) -> bool:
    """Return whether a filesystem is a local disk and not object storage."""
    return bool(fs.type_name == "local")


def is_web(fs: FileSystem) -> bool:
    """Return whether the files of a filesystem are at http(s):// URLs."""
    return fs.type_name.removeprefix("py::") in _WEB


def join(folder: str, *names: str) -> str:
    """Join a path and names with ``/``; an absolute name replaces everything before it."""
    return posixpath.join(folder, *names)


def parent(uri: str) -> tuple[str, str]:
    """Split a path or URI into folder and last name; a URI's options stay with the folder."""
    if not is_uri(uri):
        return posixpath.split(uri)
    plain, question_mark, options = uri.partition("?")
    folder, _, name = plain.rstrip("/").rpartition("/")
    return folder + question_mark + options, unquote(name)


def locate(root: str, path: str) -> tuple[FileSystem, str]:
    """Resolve a path from a listing: relative to ``root``, absolute, or a complete URI.

    ``read_bytes(*locate(root, path))`` reads an image; buckets are opened once per process.
    """
    if is_uri(path) or path.startswith("/"):
        return resolve(path)
    fs, folder = resolve(root)
    full = join(folder, path)
    return fs, full if is_local(fs) else posixpath.normpath(full)  # buckets have no ".."


def read_bytes(fs: FileSystem, path: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: The file is missing or unreadable, or the storage cannot be reached.
    """
    if is_web(fs):
        from vlray.storage.web import read_whole

        return read_whole(fs, path)
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
    r"""Escape non-UTF-8 bytes in a file name, as in ``\xe9``, so that Arrow can store the name."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def restore_bytes(name: str) -> str:
    """Undo ``escape_bytes``."""
    return _ESCAPED_BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), name)


def write_atomic(fs: FileSystem, path: str, data: bytes | memoryview | Buffer) -> None:
    """Write or replace a file atomically: readers see the whole file or none.

    On a local disk, this writes a hidden temporary file in the same folder, syncs and renames it.
    In object storage, it uploads the object, which appears when the upload is complete. If a large
    upload fails, the storage may keep invisible parts of it; a lifecycle rule on the bucket can
    remove these.

    Raises:
        OSError: The disk is full, the folder is not writable, or the storage cannot be reached.
    """
    if is_local(fs):
        atomic.write(Path(path), data)
        return

    def upload() -> None:
        # compression=None: pyarrow would otherwise compress files named .gz or .zst.
        name = _name(fs, path)
        with explained(name), fs.open_output_stream(path, compression=None) as stream:
            stream.write(data)

    # Closing a stream publishes its content, also after an exception: a Ctrl-C between open and
    # write would leave an empty object. Signals reach the main thread only, so another uploads.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(upload).result()


def list_names(fs: FileSystem, folder: str) -> dict[str, int]:
    """List the files of one folder, without subfolders and temporary files.

    Returns:
        File names mapped to sizes in bytes, sorted by name; empty if the folder does not exist.
    """
    from pyarrow.fs import FileSelector, FileType

    with explained(_name(fs, folder)):
        infos = fs.get_file_info(FileSelector(folder, allow_not_found=True))
    sizes = {info.base_name: info.size for info in infos if info.type == FileType.File}
    return {name: sizes[name] for name in sorted(sizes) if not name.startswith(TEMPORARY)}


def remove(fs: FileSystem, path: str) -> None:
    """Delete a file, if it exists."""
    with explained(_name(fs, path)), contextlib.suppress(FileNotFoundError):
        fs.delete_file(path)


def remove_temporaries(fs: FileSystem, folder: str) -> int:
    """Delete temporary files that killed writers left in or below a folder; return the count.

    Call this only while no process writes there. Object storage has no visible temporary files.
    """
    if not is_local(fs):
        return 0
    stale = list(Path(folder).rglob(f"{TEMPORARY}*"))
    for file in stale:
        file.unlink(missing_ok=True)
    return len(stale)


def _name(fs: FileSystem, path: str) -> str:
    return path if is_local(fs) else f"{fs.type_name}://{path}"
