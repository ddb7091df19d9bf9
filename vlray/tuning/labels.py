"""How often a detector names boxes that are given to it as a truth does."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlray.config.extract import ExtractConfig
from vlray.detect.load import settled
from vlray.detect.selection.reselect import LIGHT
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.parts import encode_plain
from vlray.storage import files
from vlray.stream.run import extract
from vlray.tuning.truth import Truth

log = logging.getLogger("vlray.tuning")


def label_figures(config: ExtractConfig, truth: Truth, folder: Path) -> dict[str, float]:
    """Let the detector name the boxes of a truth: an extraction with ``boxes``, done once.

    No threshold changes this, for nothing is selected. Names are the same whatever their case; of
    Visual Genome's, which may be several in one, any counts.

    Args:
        config: Settings of ``vlray extract``.
        truth: Boxes with classes, attributes or both.
        folder: For the boxes and what is extracted.

    Returns:
        ``label_accuracy``: the part of the boxes whose best class is the truth's, of those whose
        class the detector knows; ``label_boxes``: their number. ``attribute_accuracy``: the part
        whose best attribute is one of the truth's, of the boxes that have one which the detector
        knows; ``attribute_boxes`` likewise. What has no box is missing.

    Raises:
        ValueError: The detector cannot name given boxes, or knows no class and no attribute of
            the truth.
    """
    rows = np.flatnonzero(~truth.ignored & (truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1))
    place = folder / _digest(config)
    files.write_atomic(*files.resolve(place / "boxes.parquet"), encode_plain(_table(truth, rows)))
    output = config.output.model_copy(update={"path": str(place / "regions")})
    detector = config.detector.model_copy(update={"features": "none"})
    update = {"boxes": str(place / "boxes.parquet"), "output": output, "detector": detector}
    result = extract(config.model_copy(update=update))
    found = open_output(output.path)
    if result.failed or len(found) < len(set(_images(truth)[rows].tolist())):
        log.info("labels are of the %s images that have boxes", f"{len(found):,}")
    named = _named(truth, rows, found)
    figures = _accuracy("label", [(name,) for name in truth.classes], found.obj_names, *named[0])
    figures |= _accuracy("attribute", truth.attributes, found.attr_names, *named[1])
    if not figures:
        shown = sorted({*truth.classes, *(name for names in truth.attributes for name in names)})
        raise ValueError(
            f"{config.detector.name} knows none of the classes and attributes of {truth.source}, "
            f"such as {shown[:5]}; its own are {list(found.obj_names[:5])}, ...; give a truth with "
            "these names"
        )
    return figures


def _digest(config: ExtractConfig) -> str:
    """Name what the answers depend on: each kind of detection has a folder of its own."""
    options = settled(config.detector).model_dump(mode="json", exclude={*LIGHT, "features"})
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]


def _images(truth: Truth) -> np.ndarray:
    return np.repeat(np.arange(len(truth.image_ids)), np.diff(truth.offsets))


def _table(truth: Truth, rows: np.ndarray) -> pa.Table:
    ids = pa.array(truth.image_ids, pa.string()).take(pa.array(_images(truth)[rows]))
    corners = zip(("x1", "y1", "x2", "y2"), truth.boxes[rows].T, strict=True)
    return pa.table({"image_id": ids, **dict(corners)})


def _named(
    truth: Truth, rows: np.ndarray, found: RegionOutput
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give the boxes that were named, and the ids of their classes and of their attributes."""
    columns = ["image_id", "num_boxes", "obj_ids", "attr_ids"]
    table = pa.Table.from_batches(list(found.iter_batches(columns, batch_size=4096)))
    images = _images(truth)[rows]
    starts = np.searchsorted(images, np.arange(len(truth.image_ids)))
    places = pc.index_in(table["image_id"], value_set=pa.array(truth.image_ids)).to_numpy()
    numbers = table["num_boxes"].to_numpy()
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    boxes = rows[np.repeat(starts[places], numbers) + within]
    ids = [
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        for name in ("obj_ids", "attr_ids")
    ]
    return [(boxes if len(values) else boxes[:0], values) for values in ids]


def _accuracy(
    kind: str,
    right: Sequence[Iterable[str]],
    names: Sequence[str],
    boxes: np.ndarray,
    ids: np.ndarray,
) -> dict[str, float]:
    """Compare names, box by box."""
    if not len(right) or not len(names):
        return {}
    spelled = [_spellings(name) for name in names]
    known = set().union(*spelled)
    hits = []
    for box, index in zip(boxes.tolist(), ids.tolist(), strict=True):
        wanted = {name.casefold().strip() for name in right[box]} & known
        if wanted:
            hits.append(bool(wanted & spelled[index]))
    if not hits:
        return {}
    return {f"{kind}_accuracy": sum(hits) / len(hits), f"{kind}_boxes": float(len(hits))}


def _spellings(name: str) -> set[str]:
    """Split Visual Genome's ``tv,television``."""
    return {part.strip() for part in name.casefold().split(",")}
