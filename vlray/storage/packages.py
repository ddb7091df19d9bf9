"""Storage that needs a package of its own: Azure and the Hugging Face Hub, through fsspec."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FSSpecHandler, PyFileSystem

PACKAGES = {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub"}
"""Package that reads each scheme."""

_TIMES = ("mtime", "last_modified", "LastModified")
_VERSIONS = ("etag", "ETag", "blob_id")


def open_package(scheme: str) -> PyFileSystem:
    """Return the files of a scheme of `PACKAGES`.

    Raises:
        ValueError: The package is not installed, or does not find its account.
    """
    import fsspec

    try:
        return PyFileSystem(_PackageFiles(fsspec.filesystem(scheme)))
    except ImportError as error:
        package = PACKAGES[scheme]
        raise ValueError(
            f"{scheme}:// needs the package {package}, which is not installed: pip install "
            f"{package} (on all nodes of a cluster)"
        ) from error
    except ValueError as error:
        raise ValueError(f"{scheme}:// cannot be opened: {error}") from error


class _PackageFiles(FSSpecHandler):  # type: ignore[misc] # pyarrow has no types
    """Files of fsspec with times, which `FSSpecHandler` misses, and without reading ahead."""

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [self._timed(info) for info in super().get_file_info(paths)]

    def get_file_info_selector(self, selector: Any) -> list[FileInfo]:
        return [self._timed(info) for info in super().get_file_info_selector(selector)]

    def _timed(self, info: FileInfo) -> FileInfo:
        if not info.is_file:
            return info
        # Some list paths with a slash in front.
        time_ns = time_of(self.fs.info(info.path))
        return FileInfo(info.path.lstrip("/"), info.type, size=info.size, mtime_ns=time_ns)

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")


def time_of(about: dict[str, Any]) -> int | None:
    """Return the modification time in ns; without one, a number that differs for other versions."""
    values = (about.get(name) for name in (*_TIMES, *_VERSIONS))
    value = next((one for one in values if one), None)
    if isinstance(value, datetime):
        return int(value.timestamp() * 1e9)
    if isinstance(value, int | float):
        return int(value * 1e9)
    if value:
        return int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:7])
    return None
