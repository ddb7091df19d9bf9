"""Reader for VinVL's ``predictions.tsv`` and Oscar's ``feature.tsv``: a key and JSON per line.

VinVL's published ``features.tsv`` has three columns instead: key, number of boxes, vectors.

Source:
    microsoft/scene_graph_benchmark, maskrcnn_benchmark/engine/inference.py (convert_predictions_to_
    tsv); microsoft/Oscar, oscar/run_captioning.py (num_boxes, features of 2054 numbers) and
    oscar/datasets/oscar_tsv.py (three columns).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlray.formats.readers.float_types import FloatType, float_type
from vlray.formats.readers.lines import DamagedError, decode_base64, first_lines, lines
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.streams import text_size
from vlray.settings.wording import counted

_LOOKED_AT = 5  # lines
_GEOMETRY = 6  # values after each of Oscar's vectors: x1, y1, x2, y2, width, height, as fractions


class VinvlReader:
    """Reader for both formats; labels are words, and a position is a byte offset.

    The files have no image sizes; pass VinVL's ``hw.tsv`` with ``--sizes``.
    """

    name: ClassVar[str] = "vinvl"
    pickled: ClassVar[bool] = False
    unit: ClassVar[str] = "B"

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether at least one of the first lines can be parsed as one of the formats."""
        return any(isinstance(_parse(line), RawRegions) for line in first_lines(source, _LOOKED_AT))

    def __init__(self, source: Path) -> None:
        """Open the file.

        Raises:
            ValueError: None of the first lines has this format (the message includes the reason),
                or a compressed file is damaged.
        """
        self.end = text_size(source)
        rows = [_parse(line) for line in first_lines(source, _LOOKED_AT)]
        if not any(isinstance(row, RawRegions) for row in rows):
            reasons = (row.reason for row in rows if isinstance(row, Unreadable))
            raise ValueError(
                f"{source} does not have the format {self.name}: "
                f"{next(reasons, 'the file is empty')}"
            )
        samples = [row.visual_feats.tobytes() for row in rows if isinstance(row, RawRegions)]
        self._float_type = float_type(samples)
        self._source = source

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, each with the byte offset after its line."""
        for end, line in lines(self._source, position):
            yield end, _parse(line, self._float_type)


def _parse(line: bytes, kind: FloatType = "<f4") -> RawRegions | Unreadable:
    key, tab, text = line.partition(b"\t")
    image_id = key[:255].decode("utf-8", "backslashreplace")
    try:
        count, second_tab, data = text.partition(b"\t")
        if tab and image_id and second_tab and count.strip().isdigit():
            columns = {"num_boxes": int(count), "features": data.strip().decode("ascii")}
            return _oscar(image_id, columns, kind)
        if not tab or not image_id or b"\t" in text[:64]:
            raise DamagedError("the line must be a key, a tab and JSON")
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"the JSON is invalid: {error}") from error
        if isinstance(row, list):  # older files have the list of objects at the top level
            row = {"objects": row}
        if isinstance(row, dict) and isinstance(row.get("objects"), list):
            return _objects(image_id, row["objects"], kind)
        if isinstance(row, dict) and {"num_boxes", "features"} <= row.keys():
            return _oscar(image_id, row, kind)
        raise DamagedError("the JSON has neither objects, nor num_boxes and features")
    except DamagedError as error:
        return Unreadable(image_id, "Damaged", str(error))
    except (TypeError, ValueError, KeyError) as error:
        return Unreadable(
            image_id, type(error).__name__, f"the JSON does not have VinVL's structure: {error}"
        )


def _objects(image_id: str, objects: list[dict[str, Any]], kind: FloatType) -> RawRegions:
    # For an image without objects, all() is true, so the image gets empty label columns.
    labelled = all("class" in item and "conf" in item for item in objects)
    attributed = all(item.get("attributes") and item.get("attr_scores") for item in objects)
    vectors = [
        np.frombuffer(decode_base64("feature", item["feature"].encode()), kind)
        for item in objects
        if "feature" in item
    ]
    if len({len(vector) for vector in vectors}) > 1 or len(vectors) not in (0, len(objects)):
        raise DamagedError(
            "all objects must have features of the same length, but lengths differ or some are "
            "missing"
        )
    boxes = np.array([item["rect"] for item in objects], np.float32).reshape(-1, 4)
    best = [_best(item) for item in objects] if attributed else []
    return RawRegions(
        image_id,
        boxes=boxes,
        visual_feats=np.stack(vectors) if vectors else np.zeros((len(boxes), 0), np.float32),
        obj_names=tuple(str(item["class"]) for item in objects) if labelled else None,
        obj_probs=np.array([item["conf"] for item in objects], np.float32) if labelled else None,
        attr_names=tuple(name for name, _ in best) if attributed else None,
        attr_probs=np.array([score for _, score in best], np.float32) if attributed else None,
        remarks=() if vectors or not objects else ("no-features",),
    )


def _best(item: dict[str, Any]) -> tuple[str, float]:
    """Return the attribute with the highest score, as VinVL stores several for each object."""
    pairs = zip(item["attributes"], item["attr_scores"], strict=True)
    name, score = max(pairs, key=lambda pair: float(pair[1]))
    return str(name), float(score)


def _oscar(image_id: str, row: dict[str, Any], kind: FloatType) -> RawRegions:
    count = int(row["num_boxes"])
    data = decode_base64("features", row["features"].encode())
    dtype = np.dtype(kind)
    if len(data) % max(count * dtype.itemsize, 1) or (data and not count):
        raise DamagedError(
            f"features has {len(data):,} bytes, which is not a multiple of {count} {dtype} vectors"
        )
    values = np.frombuffer(data, dtype).reshape(count, -1) if count else np.zeros((0, 0), dtype)
    if count and values.shape[1] <= _GEOMETRY:
        raise DamagedError(
            f"features have {counted(values.shape[1], 'value')} per region, too few to include "
            "boxes"
        )
    split = values.shape[1] - _GEOMETRY if count else 0
    return RawRegions(
        image_id,
        boxes=values[:, split : split + 4].astype(np.float32) if count else np.zeros((0, 4), "<f4"),
        visual_feats=values[:, :split] if count else values,
        remarks=("normalized-boxes",),
    )
