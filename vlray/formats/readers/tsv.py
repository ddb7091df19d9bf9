"""Readers for bottom-up attention's TSV formats: ten columns (LXMERT) or six (the original).

Shapes: R: regions in one image; D: feature length.

Source:
    airsplay/lxmert, src/utils.py, and airsplay/py-bottom-up-attention,
    demo/detectron2_mscoco_proposal_maxnms.py (ten columns); peteanderson80/bottom-up-attention,
    tools/generate_tsv.py (six).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlray.formats.readers.float_types import FloatType, float_type
from vlray.formats.readers.lines import DamagedError, decode_base64, first_lines, lines, numbers
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.streams import text_size

COLUMNS_10 = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
COLUMNS_6 = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")

# The file does not state its dtypes: the number of bytes decides among these.
_INTEGERS, _FLOATS = ("<i8", "<i4"), ("<f4", "<f8")
_LOOKED_AT = 5  # lines; the first ones may be damaged


class _TsvReader:
    """Base class of both readers; a position is a byte offset."""

    name: ClassVar[str]
    pickled: ClassVar[bool] = False
    unit: ClassVar[str] = "B"
    columns: ClassVar[tuple[str, ...]]

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether at least one of the first lines can be parsed as this format."""
        return any(
            isinstance(cls._parse(line), RawRegions) for line in first_lines(source, _LOOKED_AT)
        )

    def __init__(self, source: Path) -> None:
        """Open the file.

        Raises:
            ValueError: None of the first lines has this format (the message includes the reason),
                or a compressed file is damaged.
        """
        self.end = text_size(source)
        rows = [self._parse(line) for line in first_lines(source, _LOOKED_AT)]
        samples = [row for row in rows if isinstance(row, RawRegions)]
        if not samples:
            reasons = (row.reason for row in rows if isinstance(row, Unreadable))
            raise ValueError(
                f"{source} does not have the format {self.name}: "
                f"{next(reasons, 'the file is empty')}"
            )
        self.float_type = float_type([row.visual_feats.tobytes() for row in samples])
        self._source = source

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, each with the byte offset after its line."""
        header = "\t".join(self.columns).encode()
        for end, line in lines(self._source, position):
            if line == header:  # some tools write a header
                continue
            yield end, self._parse(line, self.float_type)

    @classmethod
    def _parse(cls, line: bytes, kind: FloatType = "<f4") -> RawRegions | Unreadable:
        fields = line.split(b"\t")
        extra = len(fields) - len(cls.columns)
        # Split from the right if an id contains tabs, for which Python's csv module quotes it.
        if extra > 0 and line[:1] == b'"' and fields[extra][-1:] == b'"':
            fields = line.rsplit(b"\t", len(cls.columns) - 1)
        try:
            image_id = _unquoted(fields[0].decode("utf-8"))
        except UnicodeDecodeError:
            return Unreadable(
                repr(fields[0][:40]), "UnicodeDecodeError", "the image id is not UTF-8"
            )
        try:
            if len(fields) != len(cls.columns):
                glued = (
                    "; if a line end is missing, other images are lost, too" if extra > 0 else ""
                )
                raise DamagedError(
                    f"the line has {len(fields)} columns instead of {len(cls.columns)}{glued}"
                )
            if not image_id:
                raise DamagedError("the image id is empty")
            return cls._convert(image_id, dict(zip(cls.columns, fields, strict=True)), kind)
        except DamagedError as error:
            # A damaged line may be one long field.
            short = image_id if len(image_id) < 256 else image_id[:40] + "..."
            return Unreadable(short, "Damaged", str(error))

    @classmethod
    def _convert(cls, image_id: str, row: dict[str, bytes], kind: FloatType) -> RawRegions:
        raise NotImplementedError


class Tsv10Reader(_TsvReader):
    """Reader for LXMERT's ten columns: height before width; label ids from 0, no background."""

    name = "tsv10"
    columns = COLUMNS_10

    @classmethod
    def _convert(cls, image_id: str, row: dict[str, bytes], kind: FloatType) -> RawRegions:
        count = _count(row)
        return RawRegions(
            image_id,
            boxes=numbers("boxes", row["boxes"], count * 4, _FLOATS).reshape(count, 4),
            visual_feats=_features(row["features"], count, kind),
            image_hw=(_number(row, "img_h"), _number(row, "img_w")),
            obj_ids=numbers("objects_id", row["objects_id"], count, _INTEGERS),
            obj_probs=numbers("objects_conf", row["objects_conf"], count, _FLOATS),
            attr_ids=numbers("attrs_id", row["attrs_id"], count, _INTEGERS),
            attr_probs=numbers("attrs_conf", row["attrs_conf"], count, _FLOATS),
        )


class Tsv6Reader(_TsvReader):
    """Reader for the original six columns: width before height, no labels."""

    name = "tsv6"
    columns = COLUMNS_6

    @classmethod
    def _convert(cls, image_id: str, row: dict[str, bytes], kind: FloatType) -> RawRegions:
        count = _count(row)
        return RawRegions(
            image_id,
            boxes=numbers("boxes", row["boxes"], count * 4, _FLOATS).reshape(count, 4),
            visual_feats=_features(row["features"], count, kind),
            image_hw=(_number(row, "image_h"), _number(row, "image_w")),
        )


def _unquoted(field: str) -> str:
    """Undo the quoting that Python's csv module applies to ids with a quotation mark or a tab."""
    if len(field) > 1 and field[0] == field[-1] == '"':
        return field[1:-1].replace('""', '"')
    return field


def _number(row: dict[str, bytes], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DamagedError(f"{name} must be a number, but is {row[name][:20]!r}")
    return value


def _count(row: dict[str, bytes]) -> int:
    count = _number(row, "num_boxes")
    if count < 0 or count != int(count):
        raise DamagedError(f"num_boxes must be a non-negative integer, but is {count}")
    return int(count)


def _features(text: bytes, count: int, kind: FloatType) -> np.ndarray:
    """Decode (R, D) vectors; D is computed from the number of bytes."""
    data, dtype = decode_base64("features", text), np.dtype(kind)
    if len(data) % max(count * dtype.itemsize, 1) or (data and not count):
        raise DamagedError(
            f"features has {len(data):,} bytes, which is not a multiple of {count} {dtype.name} "
            "vectors"
        )
    return np.frombuffer(data, dtype).reshape(count, -1 if count else 0)
