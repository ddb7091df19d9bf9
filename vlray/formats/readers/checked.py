"""Helpers for readers of binary formats: check arrays and list files.

Shapes: R: regions in one image; D: feature length; C: classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlray.formats.readers.bounds import check_lists
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.settings.wording import counted
from vlray.storage.files import escape_bytes

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
# Visual Genome's 1,600 classes and the background.
_CLASSES_WITH_BACKGROUND = 1601


def attempt(
    image_id: str, read: Callable[..., RawRegions], *args: object
) -> RawRegions | Unreadable:
    """Call ``read(*args)`` for one image; turn any exception into an `Unreadable`."""
    try:
        return read(*args)
    except Exception as error:  # zip, numpy, HDF5 and pickle can raise anything on damaged data
        return Unreadable(image_id, type(error).__name__, str(error) or "no reason given")


def raw_regions(
    image_id: str,
    boxes: object,
    visual_feats: object,
    *,
    image_hw: tuple[float, float] | None = None,
    labels: Mapping[str, object] | None = None,
    remarks: tuple[str, ...] = (),
) -> RawRegions:
    """Check the arrays of one image, and combine them into `RawRegions`.

    Args:
        image_id: Id in the file.
        boxes: (R, 4) corners ``x1, y1, x2, y2``; further columns are ignored.
        visual_feats: (R, D) feature vectors.
        image_hw: Like the attribute of `RawRegions`.
        labels: Any of ``obj_ids``, ``obj_probs``, ``attr_ids`` and ``attr_probs``, each (R,) or
            None.
        remarks: Like the attribute of `RawRegions`.

    Raises:
        ValueError: A value is not a numeric array, or the lengths differ.
    """
    boxes, feats = numbers(boxes, "boxes"), numbers(visual_feats, "features")
    if boxes.ndim != 2 or boxes.shape[1] < 4:
        raise ValueError(f"boxes must have shape (R, 4), but have shape {boxes.shape}")
    if feats.ndim != 2 or len(feats) != len(boxes):
        raise ValueError(
            f"features have shape {feats.shape}, but the image has "
            f"{counted(len(boxes), 'box', 'boxes')}"
        )
    checked: dict[str, Any] = {}
    for name, values in (labels or {}).items():
        if values is None:
            continue
        checked[name] = numbers(values, name).reshape(-1)
        if len(checked[name]) != len(boxes):
            raise ValueError(
                f"{name} has {counted(len(checked[name]), 'value')} for "
                f"{counted(len(boxes), 'box', 'boxes')}"
            )
    return RawRegions(image_id, boxes[:, :4], feats, image_hw, **checked, remarks=remarks)


def numbers(value: object, what: str) -> np.ndarray:
    """Convert a value to a numeric array.

    Raises:
        ValueError: The value is None or not numeric; the message calls it ``what``.
    """
    if value is None:
        raise ValueError(f"the image has no {what}")
    check_lists(value, what)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} must be a numeric array, but have type {type(value).__name__}")
    return array


def size(height: object, width: object) -> tuple[float, float] | None:
    """Return an image's height and width as floats; None if either is missing."""
    if height is None or width is None:
        return None
    check_lists((height, width), "the size")
    return float(np.asarray(height).item()), float(np.asarray(width).item())


def class_labels(objects: object, cls_prob: object) -> tuple[dict[str, object], tuple[str, ...]]:
    """Convert MMF's classes and scores to labels and remarks.

    Args:
        objects: (R,) class ids, or None.
        cls_prob: (R,) scores of these classes, (R, C) scores of all classes, or None. If C is
            1601, class 0 is the background, also in ``objects``. The class ids are then recomputed
            without the background, as in the published features.

    Raises:
        ValueError: The lengths differ, or a class has no score.

    Source:
        facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py (``--background``).
    """
    if objects is None or cls_prob is None:
        return {"obj_ids": objects}, ()
    ids, probs = numbers(objects, "objects"), numbers(cls_prob, "cls_prob")
    if probs.ndim == 1:
        return {"obj_ids": ids, "obj_probs": probs}, ()
    if len(probs) != len(ids):
        raise ValueError(
            f"cls_prob has shape {probs.shape}, but the image has {counted(len(ids), 'object')}"
        )
    remarks: tuple[str, ...] = ()
    if probs.shape[1] == _CLASSES_WITH_BACKGROUND:
        probs, remarks = probs[:, 1:], ("background-first",)
        ids = probs.argmax(axis=1)
    rows, columns = np.arange(len(ids)), ids.astype(np.int64)
    if ((columns < 0) | (columns >= probs.shape[1])).any():
        raise ValueError(
            f"object ids range from {columns.min()} to {columns.max()}, but cls_prob has "
            f"{counted(probs.shape[1], 'class', 'classes')}"
        )
    return {"obj_ids": ids, "obj_probs": probs[rows, columns]}, remarks


def list_files(source: Path, ending: str) -> tuple[Path, list[str]]:
    """List the files in a folder and its subfolders whose names end with ``ending``.

    Links are followed; hidden files and folders are skipped.

    Returns:
        The folder, and the sorted paths relative to the folder. If the source is a file: its
        parent folder and its name.
    """
    if source.is_file():
        return source.parent, [source.name]
    top, names, entered = os.fspath(source), list[str](), set[str]()
    for folder, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        # Sorted, so that if two links lead to one folder, every run enters the same link.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        below = os.path.relpath(folder, top)
        prefix = "" if below == "." else f"{below}/"
        names += [prefix + name for name in files if name.endswith(ending) and name[0] != "."]
    return source, sorted(names)


def image_id_of(name: str, ending: str) -> str:
    """Return the image id for a file path, without endings: ``a`` for ``a.jpg.npz``."""
    stem = escape_bytes(name.removesuffix(ending))
    for image_ending in _IMAGE_ENDINGS:
        if stem.lower().endswith(image_ending):
            return stem[: -len(image_ending)]
    return stem
