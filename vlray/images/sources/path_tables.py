"""Tables of paths: CSV, TSV and Parquet files with a column of paths or URIs of images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from vlray.images.sources.entry import Entry, archive_kind
from vlray.images.sources.rows import ID_COLUMNS, image_column
from vlray.storage import files
from vlray.storage.fingerprint import of_paths

if TYPE_CHECKING:
    import pyarrow.fs as pafs

PATH_COLUMNS = ("path", "file_path", "image_path", "file_name", "filename", "uri", "url", "image")
"""Names of columns with paths or URIs, in order of preference."""

HEADER_BYTES = 1 << 16  # limit on the first line of a CSV file

EXTENSIONS = frozenset((".csv", ".tsv"))


def path_column(schema: pa.Schema) -> str:
    """Return the column with the paths or URIs of images; empty if there is none."""
    for name in PATH_COLUMNS:
        if name in schema.names and _is_text(schema.field(name).type):
            return name
    return ""


def is_path_table(fs: pafs.FileSystem, path: str) -> bool:
    """Return whether a file is a Parquet file with paths of images instead of their bytes."""
    if archive_kind(path) != "parquet":
        return False
    try:
        with fs.open_input_file(path) as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError):
        return False  # reading it as images reports the damage
    return not image_column(schema) and bool(path_column(schema))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def read_table(fs: pafs.FileSystem, path: str, root: str) -> pa.Table:
    """Read a CSV or TSV file with a header, all columns as text, or a Parquet file.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with files.explained(root), fs.open_input_file(path) as stream:
            if path.lower().endswith(".parquet"):
                schema = pq.read_schema(stream)
                names = [
                    name for name in schema.names if not pa.types.is_nested(schema.field(name).type)
                ]
                stream.seek(0)
                return pq.read_table(stream, columns=names)
            separator = "\t" if path.lower().endswith(".tsv") else ","
            names = _header(stream.read(HEADER_BYTES).partition(b"\n")[0], separator)
            stream.seek(0)
            # Ids such as 0042 keep their zeros.
            kinds = dict.fromkeys(names, pa.string())
            return pa_csv.read_csv(
                stream,
                parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types=kinds, strings_can_be_null=False
                ),
            )
    except pa.ArrowException as error:
        raise ValueError(f"{root} is damaged: {' '.join(str(error).split())[:200]}") from error


def _header(line: bytes, separator: str) -> list[str]:
    return next(csv.reader([line.decode("utf-8-sig", "replace")], delimiter=separator), [])


def entries(table: pa.Table, root: str, folder: str, id_column: str = "") -> Iterator[Entry]:
    """Yield the images that a table names.

    Args:
        table: Result of `read_table`.
        root: Path of the table, for error messages.
        folder: Folder of the table, which relative paths start from.
        id_column: Column with the ids; empty: one of `vlray.images.sources.rows.ID_COLUMNS`, else
            ids are derived from the paths.

    Raises:
        ValueError: There is no column of paths or no column ``id_column``, or a path is missing,
            repeated, or of a scheme that vlray does not read.
    """
    names = ", ".join(table.column_names)
    column = path_column(table.schema)
    if not column:
        raise ValueError(
            f"{root} has no column of paths ({', '.join(PATH_COLUMNS)}); its columns are {names}"
        )
    if id_column and id_column not in table.column_names:
        raise ValueError(f"{root} has no column {id_column!r}; its columns are {names}")
    chosen = id_column or next((name for name in ID_COLUMNS if name in table.column_names), "")
    paths = table[column].to_pylist()
    if None in paths or "" in paths:
        raise ValueError(
            f"{root}: row {1 + [path or '' for path in paths].index('')} has no {column}"
        )
    for path in paths:
        if files.is_uri(path):
            files.check_listed(path)
    ids = pc.cast(table[chosen], pa.string()).to_pylist() if chosen else paths
    prints = of_paths(folder, paths)
    for path, name, one in zip(paths, ids, prints, strict=True):
        yield Entry(path, name or path, one, None, bool(chosen and name))
