"""Name damaged and foreign files in errors, with what to do about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.storage import files


class DamagedFileError(ValueError):
    """Raised if a file cannot be read because of its content; the message names the file."""


@contextmanager
def damage_of(path: str, way_out: str) -> Iterator[None]:
    """Turn the errors that damaged content causes into one that names the file.

    Args:
        path: The file, for the message.
        way_out: What the user can do, in the imperative.

    Raises:
        DamagedFileError: Arrow or JSON cannot read the content, or columns are missing.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except (pa.ArrowException, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        # Arrow raises an OSError without a number for damaged pages.
        if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
            raise
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise DamagedFileError(f"{path} is damaged ({reason}); {way_out}") from error
    except RecursionError as error:
        raise DamagedFileError(f"{path} is nested too deeply; {way_out}") from error
    except KeyError as error:
        raise DamagedFileError(f"{path} has another form: it lacks {error}; {way_out}") from error


@contextmanager
def open_parquet(fs: pafs.FileSystem, path: str, way_out: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; errors while reading from it are as in `damage_of`."""
    with (
        damage_of(path, way_out),
        fs.open_input_file(path) as file,
        pq.ParquetFile(file) as parquet,
    ):
        yield parquet


def read_json(fs: pafs.FileSystem, path: str, way_out: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: The file is not JSON, or holds something else.
    """
    data = files.read_bytes(fs, path)
    with damage_of(path, way_out):
        value = json.loads(data)
    if not isinstance(value, dict):
        raise DamagedFileError(
            f"{path} has another form: it holds a {type(value).__name__}, not an object; {way_out}"
        )
    return value
