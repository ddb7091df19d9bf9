"""Images in Parquet files: image bytes in rows, as in Hugging Face's data sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlray.images.decode import ImageError
from vlray.images.sources.entry import SEPARATOR, Entry, archive_stem, broken
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    from vlray.images.sources.handles import Handle

IMAGE_COLUMNS = ("image", "bytes", "image_bytes", "img", "jpg", "jpeg", "png", "webp", "picture")
"""Names of columns with image bytes, in order of preference: binary, or a struct with ``bytes``."""

ID_COLUMNS = ("image_id", "img_id", "__key__", "key")
"""Names of columns with ids, in order of preference."""

BATCH = 32  # rows read at a time
_BYTES, _PATH = "bytes", "path"  # fields of Hugging Face's image type


class NoImagesError(ValueError):
    """Raised when a Parquet file has no column of image bytes."""


def image_column(schema: pa.Schema) -> str:
    """Return the column with image bytes: ``image.bytes`` for Hugging Face's type.

    Returns:
        Dotted name of the binary column; empty if the file has none.
    """
    for name in sorted(schema.names, key=_preference):
        kind = schema.field(name).type
        if pa.types.is_struct(kind):
            index = kind.get_field_index(_BYTES)
            if index >= 0 and _is_binary(kind.field(index).type):
                return f"{name}.{_BYTES}"
        elif _is_binary(kind) and name in IMAGE_COLUMNS:
            return str(name)
    return ""


def _preference(name: str) -> int:
    return IMAGE_COLUMNS.index(name) if name in IMAGE_COLUMNS else len(IMAGE_COLUMNS)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def entries(
    stream: pa.NativeFile, archive: str, fingerprint: Fingerprint, id_column: str = ""
) -> Iterator[Entry]:
    """Yield the rows of a Parquet file that has a column of image bytes.

    Args:
        stream: The file.
        archive: Path of the file, for the paths of its rows.
        fingerprint: Fingerprint of the file.
        id_column: Column with the ids. Empty: one of `ID_COLUMNS`, else the file names that
            Hugging Face's image type stores, else the file's name and the number of the row.

    Raises:
        NoImagesError: There is no column of image bytes.
        ValueError: There is no column ``id_column``.
    """
    try:
        file = pq.ParquetFile(stream)
        column = image_column(file.schema_arrow)
    except (pa.ArrowException, OSError) as error:
        yield broken(archive, "", f"the Parquet file is damaged ({_first(error)})", fingerprint)
        return
    if not column:
        columns = ", ".join(file.schema_arrow.names)
        raise NoImagesError(
            f"{archive} has no column of image bytes ({', '.join(IMAGE_COLUMNS)}, or a struct with "
            f"bytes); its columns are {columns}"
        )
    row = 0
    content = Fingerprint(0, fingerprint.mtime_ns)
    for group in range(file.num_row_groups):
        names, is_id = _names(file, group, column, id_column, archive)
        for index in range(file.metadata.row_group(group).num_rows):
            # Zero-padded, so that paths have the order of the rows.
            path = f"{archive}{SEPARATOR}{row:09d}"
            name = names[index] if names else f"{archive_stem(archive)}-{row:09d}"
            place = f"parquet {group} {index} {column}"
            yield Entry(path, name or path, content, place, is_id and bool(name))
            row += 1


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _names(
    file: pq.ParquetFile, group: int, column: str, id_column: str, archive: str
) -> tuple[list[str], bool]:
    """Return the names of the rows of a row group, and whether they are ids.

    The list is empty if the file has no names.
    """
    schema = file.schema_arrow
    if id_column and id_column not in schema.names:
        raise ValueError(
            f"{archive} has no column {id_column!r}; its columns are {', '.join(schema.names)}"
        )
    chosen = id_column or next((name for name in ID_COLUMNS if name in schema.names), "")
    if chosen:
        table = file.read_row_group(group, columns=[chosen])
        return [_text(value) for value in table[chosen].to_pylist()], True
    top, dot, _ = column.partition(".")
    if dot and schema.field(top).type.get_field_index(_PATH) >= 0:
        values = file.read_row_group(group, columns=[f"{top}.{_PATH}"])[top].to_pylist()
        paths = [(value or {}).get(_PATH) or "" for value in values]
        # If a name is missing, all rows are numbered instead.
        if all(paths):
            return paths, False
    return [], False


def _text(value: Any) -> str:
    return "" if value is None else str(value)


class _Rows:
    """Reads the binary column of one row group in order, a few rows at a time.

    The rows before the last ones are kept, because threads ask in about the right order only.
    """

    def __init__(self, file: pq.ParquetFile, group: int, column: str) -> None:
        self._batches = file.iter_batches(BATCH, row_groups=[group], columns=[column])
        self._column = column
        self._begin = 0  # row of the first value
        self._values: list[pa.Array] = []

    def __contains__(self, index: int) -> bool:
        """Return whether the row has not been passed yet."""
        return index >= self._begin

    def value(self, index: int) -> bytes | None:
        while index >= self._begin + sum(map(len, self._values)):
            batch = next(self._batches)
            top, dot, field = self._column.partition(".")
            values = batch.column(top)
            self._values.append(values.field(field) if dot else values)
            if len(self._values) > 2:
                self._begin += len(self._values.pop(0))
        begin = self._begin
        for values in self._values:
            if index < begin + len(values):
                break
            begin += len(values)
        value: bytes | None = values[index - begin].as_py()
        return value

    def close(self) -> None:
        self._batches.close()


def read(handle: Handle, place: str) -> bytes:
    """Return the image bytes of a row.

    Args:
        handle: The open file.
        place: Place of the row, ``parquet GROUP ROW COLUMN``.

    Raises:
        ImageError: The row has no bytes, or the file is damaged.
    """
    _, group, index, column = place.split(" ", 3)
    opened = handle.opened
    try:
        if "file" not in opened:
            # Without pre-buffering, a row group is streamed and not held as a whole.
            opened["file"] = pq.ParquetFile(handle.file, pre_buffer=False, buffer_size=1 << 20)
        key = f"{group} {column}"
        if key not in opened or int(index) not in opened[key]:
            for name in [name for name in opened if name != "file"]:
                opened.pop(name).close()
            opened[key] = _Rows(opened["file"], int(group), column)
        value = opened[key].value(int(index))
    except (pa.ArrowException, StopIteration, IndexError) as error:
        raise ImageError(f"the Parquet file is damaged ({_first(error)})") from error
    if value is None:
        raise ImageError(
            "the row has no image bytes; if it has the path of a file only, pass the folder of the "
            "files, or embed them (datasets.table.embed_table_storage, as push_to_hub does)"
        )
    return bytes(value)
