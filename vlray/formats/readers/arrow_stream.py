"""Readers for Arrow streams from Hugging Face's LXMERT script and from vltk."""

from __future__ import annotations

import bisect
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlray.formats.readers.checked import attempt, raw_regions, size
from vlray.formats.readers.protocol import RawRegions, Unreadable

# Bytes to scan before the file is mapped again: the pages of a mapped file that were read count
# towards this process's memory until the file is unmapped.
_MAPPED = 32 * 2**20
_END = 8  # bytes of the end-of-stream marker, which is optional


@dataclass
class _Contents:
    """Record batches in a stream.

    Attributes:
        offsets: Byte offset of each batch in the file.
        starts: Number of the first row in each batch.
        rows: Number of rows in all batches.
        damage: Why the stream could not be read to the end; "" if it could.
    """

    offsets: list[int]
    starts: list[int]
    rows: int = 0
    damage: str = ""


class _ArrowReader(ABC):
    """Base class of readers for a stream with one row per image; a position is a row number.

    A stream has no table of contents, so the headers of all batches are scanned when it is opened.
    A truncated or damaged stream is read up to the damage.
    """

    pickled: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]]
    id_column: ClassVar[str]

    def __init__(self, source: Path) -> None:
        self._source = source
        self._schema = _read_schema(source)
        missing = [name for name in self.columns if name not in self._schema.names]
        if missing:
            raise ValueError(
                f"{source} lacks the columns {', '.join(missing)}; its columns are "
                f"{', '.join(self._schema.names) or '(none)'}"
            )
        self._contents = _find_batches(source, self._schema)
        self._lost = self._list_lost(self._contents)
        self.end = self._contents.rows + len(self._lost)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the source is a stream with the columns of this format."""
        try:
            return set(cls.columns) <= set(_read_schema(source).names)
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on in row order, then those lost to truncation."""
        starts = [*self._contents.starts, self._contents.rows]
        batch = max(bisect.bisect_right(starts, position) - 1, 0)
        while position < self._contents.rows:
            rows = self._read_batch(batch)
            while position < starts[batch + 1]:
                row = position - starts[batch]
                value = None if isinstance(rows, str) else rows.column(self.id_column)[row].as_py()
                image_id = f"row {position}" if value is None else str(value)
                position += 1
                yield position, attempt(image_id, self._read_row, rows, row, image_id)
            batch += 1
        for image_id in self._lost[position - self._contents.rows :]:
            position += 1
            reason = self._contents.damage or "the file ends before this row"
            yield position, Unreadable(image_id, "CutOff", reason)

    def _read_batch(self, batch: int) -> pa.RecordBatch | str:
        """Read one batch through a memory map; if it is damaged, return the reason instead."""
        try:
            with pa.memory_map(str(self._source)) as mapped:
                mapped.seek(self._contents.offsets[batch])
                rows = pa.ipc.read_record_batch(pa.ipc.read_message(mapped), self._schema)
            rows.validate(full=True)  # damaged offsets would cause reads outside the buffer
        except pa.ArrowException as error:
            return f"the batch with this row is damaged: {error}"
        return rows

    def _read_row(self, rows: pa.RecordBatch | str, row: int, image_id: str) -> RawRegions:
        if isinstance(rows, str):
            raise ValueError(rows)
        return self._read(rows, row, image_id)

    @abstractmethod
    def _read(self, rows: pa.RecordBatch, row: int, image_id: str) -> RawRegions:
        """Read one row."""

    def _list_lost(self, contents: _Contents) -> list[str]:
        """Return the ids of images lost to truncation; if unknown, a placeholder for all."""
        return [f"rows from {contents.rows} on"] if contents.damage else []


class HfArrowReader(_ArrowReader):
    """Reader for streams from Hugging Face's LXMERT script ``extracting_data.py``.

    Each image has 36 rows. ``boxes`` are fractions of the image, ``sizes`` holds the height and
    width of the *resized* image, ids are floats, and ``preds_per_image`` is the number of rows
    without padding. If the script ran with a batch size above 1, it divided the boxes by the size
    of another image in the batch; the file does not record this.

    Args:
        source: The file.

    Raises:
        ValueError: The file is not such a stream.

    Source:
        huggingface/transformers-research-projects, lxmert/extracting_data.py and
        lxmert/modeling_frcnn.py (``norm_box``, ``pad_list_tensors``).
    """

    name: ClassVar[str] = "arrow-hf"
    columns: ClassVar[tuple[str, ...]] = ("img_id", "boxes", "roi_features", "sizes")
    id_column: ClassVar[str] = "img_id"

    def _read(self, rows: pa.RecordBatch, row: int, image_id: str) -> RawRegions:
        boxes, feats = _matrix(rows, "boxes", row), _matrix(rows, "roi_features", row)
        labels = {
            name: _vector(rows, name, row)
            for name in ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
        }
        remarks: tuple[str, ...] = ("normalized-boxes", "resized-size")
        count = len(boxes)
        if "preds_per_image" in rows.schema.names:
            count = int(rows.column("preds_per_image")[row].as_py())
        if count < len(boxes):
            remarks += ("padded",)
        sizes = _vector(rows, "sizes", row)
        return raw_regions(
            image_id,
            boxes[:count],
            feats[:count],
            image_hw=None if sizes is None else size(*sizes),
            labels={name: v if v is None else v[:count] for name, v in labels.items()},
            remarks=remarks,
        )


class VltkArrowReader(_ArrowReader):
    """Reader for streams from vltk's Faster R-CNN: ``<split>.arrow``, 36 rows per image.

    ``box`` is in pixels or in fractions of the image, depending on vltk's version. The stream has
    neither image sizes nor scores, and ids are floats. Zero rows at the end are padding. The
    stream's metadata maps image ids to rows, so the images missing from a truncated file are known.

    Args:
        source: The file.

    Raises:
        ValueError: The file is not such a stream.

    Source:
        eltoto1219/vltk, vltk/abc/extraction.py and vltk/adapters/frcnn.py.
    """

    name: ClassVar[str] = "arrow-vltk"
    columns: ClassVar[tuple[str, ...]] = ("imgid", "box", "features")
    id_column: ClassVar[str] = "imgid"

    def _read(self, rows: pa.RecordBatch, row: int, image_id: str) -> RawRegions:
        boxes, feats = _matrix(rows, "box", row), _matrix(rows, "features", row)
        labels = {
            "obj_ids": _vector(rows, "object_ids", row),
            "attr_ids": _vector(rows, "attr_ids", row),
        }
        remarks: tuple[str, ...] = ()
        if len(boxes) == len(feats):
            # Only zero rows at the end are padding; a zero row before others is a region.
            real = np.flatnonzero(boxes.any(axis=1) | feats.any(axis=1))
            count = int(real[-1]) + 1 if len(real) else 0
            if count < len(boxes):
                remarks = ("padded",)
                boxes, feats = boxes[:count], feats[:count]
                labels = {name: v if v is None else v[:count] for name, v in labels.items()}
        return raw_regions(image_id, boxes, feats, labels=labels, remarks=remarks)

    def _list_lost(self, contents: _Contents) -> list[str]:
        try:
            rows = json.loads((self._schema.metadata or {})[b"img_to_row_map"])
            return [str(name) for name, row in rows.items() if int(row) >= contents.rows]
        except (
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ):  # not every version of vltk writes this map
            return super()._list_lost(contents)


def _read_schema(source: Path) -> pa.Schema:
    try:
        with pa.memory_map(str(source)) as mapped:
            return pa.ipc.open_stream(mapped).schema
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{source} is not an Arrow stream: {error}") from error


def _find_batches(source: Path, schema: pa.Schema) -> _Contents:
    contents, position = _Contents([], []), 0
    while True:
        with pa.memory_map(str(source)) as mapped:
            mapped.seek(position)
            stop = position + _MAPPED
            while position < stop:
                try:
                    message = pa.ipc.read_message(mapped)
                    if message.type == "record batch":
                        rows = pa.ipc.read_record_batch(message, schema).num_rows
                        contents.offsets.append(position)
                        contents.starts.append(contents.rows)
                        contents.rows += rows
                except EOFError:
                    return contents
                except (OSError, pa.ArrowException) as error:
                    # The end-of-stream marker may be incomplete: no row is lost.
                    if mapped.size() - position < _END:
                        return contents
                    contents.damage = (
                        f"the stream is truncated or damaged at byte {position}: {error}"
                    )
                    return contents
                position = mapped.tell()


def _vector(rows: pa.RecordBatch, name: str, row: int) -> np.ndarray | None:
    """Copy the list in one row; return None if the column does not exist."""
    if name not in rows.schema.names:
        return None
    return np.array(_items(rows, name, row).to_numpy(zero_copy_only=False))


def _matrix(rows: pa.RecordBatch, name: str, row: int) -> np.ndarray:
    """Copy the list of lists in one row to a matrix.

    Raises:
        ValueError: The inner lists have different lengths, or there are none.
    """
    lists = _items(rows, name, row)
    lengths = set(pc.list_value_length(lists).to_pylist())
    if len(lengths) != 1:
        raise ValueError(
            f"all rows in {name} must have the same length, but have {len(lengths)} lengths"
        )
    values = np.array(lists.flatten().to_numpy(zero_copy_only=False))
    return values.reshape(len(lists), -1)


def _items(rows: pa.RecordBatch, name: str, row: int) -> Any:
    column = rows.column(name)
    if isinstance(column, pa.ExtensionArray):  # if Hugging Face's datasets has been imported
        column = column.storage
    items = column[row].values
    if items is None:
        raise ValueError(f"{name} is empty")
    return items
