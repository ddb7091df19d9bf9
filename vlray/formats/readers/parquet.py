"""Reader for folders of Parquet files with the columns of an output, such as HF datasets."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlray.formats.readers.checked import attempt, list_files, raw_regions, size
from vlray.formats.readers.protocol import Labels, RawRegions, Unreadable
from vlray.regions.schema import from_table

_ENDING = ".parquet"
_COLUMNS = ("image_id", "image_height", "image_width", "num_boxes", "boxes")
_LABELS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
_MAGIC = b"PAR1"
_ROWS = 16  # read at once


class HfReader:
    """Reader for a Hugging Face dataset that ``vlray convert`` wrote; a position is a row number.

    The names of the ids are read from the dataset's features, if they are ``ClassLabel``.

    Args:
        source: The folder, or one Parquet file.

    Raises:
        ValueError: There is no Parquet file, or one lacks a column.
    """

    name: ClassVar[str] = "hf"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        folder, names = list_files(source, _ENDING)
        self._paths = [folder / name for name in names]
        if not self._paths:
            raise ValueError(f"{source} and its subfolders contain no {_ENDING} files")
        self._starts = [0]
        for path in self._paths:
            try:
                with pq.ParquetFile(path) as file:
                    schema, rows = file.schema_arrow, file.metadata.num_rows
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"{path} is a damaged Parquet file: {error}") from error
            if missing := [name for name in _COLUMNS if name not in schema.names]:
                raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
            self._starts.append(self._starts[-1] + rows)
        self.end = self._starts[-1]
        self.vocabulary = _vocabulary(schema)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the first Parquet file has the columns of an output."""
        folder, names = list_files(source, _ENDING)
        try:
            path = folder / names[0]
            with path.open("rb") as start:
                if start.read(len(_MAGIC)) != _MAGIC:
                    return False
            with pq.ParquetFile(path) as file:
                return set(_COLUMNS) <= set(file.schema_arrow.names)
        except (IndexError, OSError, pa.ArrowException):
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of files and rows."""
        number = max(bisect.bisect_right(self._starts, position) - 1, 0)
        for path in self._paths[number:]:
            skip = position - self._starts[number]
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    for row in range(min(skip, batch.num_rows), batch.num_rows):
                        position += 1
                        name = str(batch.column("image_id")[row].as_py())
                        yield position, attempt(name, _read, name, batch.slice(row, 1))
                    skip = max(skip - batch.num_rows, 0)
            number += 1


def _read(image_id: str, row: pa.RecordBatch) -> RawRegions:
    regions = from_table(row)
    height, width = regions.image_hw[0].tolist()
    labels = {name: getattr(regions, name) for name in _LABELS}
    vectors = np.ascontiguousarray(regions.visual_feats)
    remarks = ("no-features",) if not vectors.shape[1] else ()
    hw = size(height, width)
    return raw_regions(
        image_id, regions.boxes, vectors, image_hw=hw, labels=labels, remarks=remarks
    )


def _vocabulary(schema: pa.Schema) -> tuple[Labels, Labels] | None:
    """Return object and attribute names of the dataset's features; None if there are none."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = [info[column]["feature"].get("names", ()) for column in ("obj_ids", "attr_ids")]
        return tuple(map(str, names[0])), tuple(map(str, names[1]))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None
