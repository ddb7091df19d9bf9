"""What readers of binary forms share: regions out of loose arrays, or the reason why not.

Shapes: R regions of one image, D feature length, C classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlray.formats.readers.protocol import Found, Unreadable
from vlray.storage.files import escape_bytes

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_CLASSES_WITH_BACKGROUND = 1601


def attempt(image_id: str, read: Callable[..., Found], *args: Any) -> Found | Unreadable:
    """Read one image with ``read(*args)``; what a damaged one raises becomes its reason."""
    try:
        return read(*args)
    except Exception as error:  # zip, numpy, HDF5, pickle: damage makes these raise anything
        return Unreadable(image_id, type(error).__name__, str(error) or "no reason given")


def found(
    image_id: str,
    boxes: Any,
    visual_feats: Any,
    *,
    image_hw: tuple[float, float] | None = None,
    labels: Mapping[str, Any] | None = None,
    remarks: tuple[str, ...] = (),
) -> Found:
    """Put one image's arrays together.

    Args:
        image_id: As in the file.
        boxes: (R, 4) or longer rows, of which the first four are corners.
        visual_feats: (R, D).
        image_hw: As in ``Found``.
        labels: ``obj_ids``, ``obj_probs``, ``attr_ids``, ``attr_probs``, each (R,) or None.
        remarks: As in ``Found``.

    Raises:
        ValueError: Something is no array of numbers, or the lengths differ.
    """
    boxes, feats = numbers(boxes, "boxes"), numbers(visual_feats, "features")
    if boxes.ndim != 2 or boxes.shape[1] < 4:
        raise ValueError(f"boxes are of shape {boxes.shape}, not (R, 4)")
    if feats.ndim != 2 or len(feats) != len(boxes):
        raise ValueError(f"features are of shape {feats.shape}, but there are {len(boxes)} boxes")
    checked: dict[str, Any] = {}
    for name, values in (labels or {}).items():
        if values is None:
            continue
        checked[name] = numbers(values, name).reshape(-1)
        if len(checked[name]) != len(boxes):
            raise ValueError(f"{name} has {len(checked[name])} values for {len(boxes)} boxes")
    return Found(image_id, boxes[:, :4], feats, image_hw, **checked, remarks=remarks)


def numbers(value: Any, what: str) -> np.ndarray:
    """Take a value as an array of numbers.

    Raises:
        ValueError: It is missing or something else; ``what`` names it.
    """
    if value is None:
        raise ValueError(f"there are no {what} in it")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} are of type {type(value).__name__}, not an array of numbers")
    return array


def size(height: Any, width: Any) -> tuple[float, float] | None:
    """Read an image's size; None where either side is missing."""
    if height is None or width is None:
        return None
    return float(np.asarray(height).item()), float(np.asarray(width).item())


def class_labels(objects: Any, cls_prob: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read classes and their scores from MMF's two arrays; returns labels and remarks.

    Args:
        objects: (R,) classes, or None.
        cls_prob: (R,) scores, (R, C) scores of all classes, or None. Of 1601 classes the first is
            the background, which ``objects`` counts too: classes are then taken without it, as the
            published features have them.

    Source:
        facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py (``--background``).
    """
    if objects is None or cls_prob is None:
        return {"obj_ids": objects}, ()
    ids, probs = numbers(objects, "objects"), numbers(cls_prob, "cls_prob")
    if probs.ndim == 1:
        return {"obj_ids": ids, "obj_probs": probs}, ()
    if len(probs) != len(ids):
        raise ValueError(f"cls_prob is of shape {probs.shape}, but there are {len(ids)} objects")
    remarks: tuple[str, ...] = ()
    if probs.shape[1] == _CLASSES_WITH_BACKGROUND:
        probs, remarks = probs[:, 1:], ("background-first",)
        ids = probs.argmax(axis=1)
    rows, columns = np.arange(len(ids)), ids.astype(np.int64)
    if ((columns < 0) | (columns >= probs.shape[1])).any():
        raise ValueError(
            f"objects go to {columns.max()}, but cls_prob has {probs.shape[1]} classes"
        )
    return {"obj_ids": ids, "obj_probs": probs[rows, columns]}, remarks


def list_files(source: Path, ending: str) -> tuple[Path, list[str]]:
    """List the files of an ending below a folder, in an order that is always the same.

    Links are followed, hidden files and folders are not looked at.

    Returns:
        The folder, and the files' paths relative to it; for a file its own folder and name.
    """
    if source.is_file():
        return source.parent, [source.name]
    top, names, entered = os.fspath(source), list[str](), set[str]()
    for folder, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        # In order: of two links to one folder, or a link to a folder above, the same one counts.
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
    """Name the image of a file: its relative path without endings (``a.jpg.npz`` is ``a``)."""
    stem = escape_bytes(name.removesuffix(ending))
    for image_ending in _IMAGE_ENDINGS:
        if stem.lower().endswith(image_ending):
            return stem[: -len(image_ending)]
    return stem
