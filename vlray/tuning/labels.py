"""Label accuracy: how often a detector labels ground-truth boxes correctly."""

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


def label_accuracy(config: ExtractConfig, truth: Truth, folder: Path) -> dict[str, float]:
    """Measure how often the detector predicts the right class and attribute of ground-truth boxes.

    The labels are predicted in one extraction with ``boxes``, so selection thresholds have no
    effect. Names are compared regardless of case. If a class has several names (Visual Genome), any
    of them counts.

    Args:
        config: Settings of ``vlray extract``.
        truth: Ground-truth boxes with classes, attributes or both.
        folder: Folder for the boxes and the extraction.

    Returns:
        Metrics by name. Metrics are left out if their number of boxes would be 0.

        - ``label_boxes``: number of boxes whose true class is in the detector's vocabulary.
        - ``label_accuracy``: share of these boxes whose predicted class is correct.
        - ``attribute_boxes``: number of boxes with a true attribute in the detector's vocabulary.
        - ``attribute_accuracy``: share of these boxes whose predicted attribute is correct.

    Raises:
        ValueError: The detector cannot pool given boxes, or can predict none of the truth's
            classes and attributes.
    """
    # Leave out crowds, which are not single objects, and empty boxes, which have no pixels to pool.
    rows = np.flatnonzero(~truth.ignored & (truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1))
    box_folder = folder / _digest(config)
    box_path = box_folder / "boxes.parquet"
    files.write_atomic(*files.resolve(box_path), encode_plain(_table(truth, rows)))
    output = config.output.model_copy(update={"path": str(box_folder / "regions")})
    detector = config.detector.model_copy(update={"features": "none"})  # labels need no vectors
    update = {"boxes": str(box_path), "output": output, "detector": detector}
    result = extract(config.model_copy(update=update))
    regions = open_output(output.path)
    if result.failed or len(regions) < len(set(_images(truth)[rows].tolist())):
        log.info("label accuracy is measured on %s images", f"{len(regions):,}")
    classes, attributes = _predicted_ids(truth, rows, regions)
    true_classes = [(name,) for name in truth.classes]
    metrics = _accuracy("label", true_classes, regions.obj_names, *classes)
    metrics |= _accuracy("attribute", truth.attributes, regions.attr_names, *attributes)
    if not metrics:
        names = sorted({*truth.classes, *(name for names in truth.attributes for name in names)})
        raise ValueError(
            f"{config.detector.name} knows none of the classes and attributes of {truth.source}, "
            f"such as {names[:5]}; its own classes are {list(regions.obj_names[:5])}, ...; pass "
            "a --truth file with these names"
        )
    return metrics


def _digest(config: ExtractConfig) -> str:
    """Hash the options that change the predicted labels; the hash names their folder."""
    options = settled(config.detector).model_dump(mode="json", exclude={*LIGHT, "features"})
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]


def _images(truth: Truth) -> np.ndarray:
    return np.repeat(np.arange(len(truth.image_ids)), np.diff(truth.offsets))


def _table(truth: Truth, rows: np.ndarray) -> pa.Table:
    ids = pa.array(truth.image_ids, pa.string()).take(pa.array(_images(truth)[rows]))
    corners = zip(("x1", "y1", "x2", "y2"), truth.boxes[rows].T, strict=True)
    return pa.table({"image_id": ids, **dict(corners)})


def _predicted_ids(
    truth: Truth, rows: np.ndarray, regions: RegionOutput
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs for classes and attributes: ground-truth box indices, and their predicted ids.

    Both arrays of a pair are empty if the detector does not predict that kind of label.
    """
    columns = ["image_id", "num_boxes", "obj_ids", "attr_ids"]
    table = pa.Table.from_batches(list(regions.iter_batches(columns, batch_size=4096)))
    images = _images(truth)[rows]
    starts = np.searchsorted(images, np.arange(len(truth.image_ids)))
    # The output may list the images in another order, but keeps the order of boxes in an image.
    indices = pc.index_in(table["image_id"], value_set=pa.array(truth.image_ids)).to_numpy()
    numbers = table["num_boxes"].to_numpy()
    # Position of each region within its image, without a Python loop.
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    boxes = rows[np.repeat(starts[indices], numbers) + within]
    ids = [
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        for name in ("obj_ids", "attr_ids")
    ]
    return [(boxes if len(values) else boxes[:0], values) for values in ids]


def _accuracy(
    kind: str,
    true_names: Sequence[Iterable[str]],
    names: Sequence[str],
    boxes: np.ndarray,
    ids: np.ndarray,
) -> dict[str, float]:
    """Compute the accuracy of one kind of label, and the number of boxes that count."""
    if not len(true_names) or not len(names):
        return {}
    spellings = [_spellings(name) for name in names]
    vocabulary = set().union(*spellings)
    hits = []
    for box, index in zip(boxes.tolist(), ids.tolist(), strict=True):
        # The detector cannot predict names outside its vocabulary, so they do not count.
        expected = {name.casefold().strip() for name in true_names[box]} & vocabulary
        if expected:
            hits.append(bool(expected & spellings[index]))
    if not hits:
        return {}
    return {f"{kind}_accuracy": sum(hits) / len(hits), f"{kind}_boxes": float(len(hits))}


def _spellings(name: str) -> set[str]:
    """Return the names in a class name such as Visual Genome's ``tv,television``."""
    return {part.strip() for part in name.casefold().split(",")}
