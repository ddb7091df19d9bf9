"""From what a file holds of one image to a row of the table, or to a reason why not.

Shapes: R regions of one image, D feature length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vlray.formats.flags import Flag, RowError
from vlray.formats.frame import place
from vlray.formats.labels import Vocabulary
from vlray.formats.readers.protocol import Found
from vlray.formats.survey import Survey
from vlray.regions.batch import RegionBatch

MANY = 10  # regions: from here on one label for all of them is no chance
NEARLY_ALL = 0.85
POOLED = 2048  # length of vectors that are means of ReLU's output, so never negative

_LARGEST_FLOAT16 = 65504.0


class Corrector:
    """Makes rows of what a reader found; the vocabularies grow where a file holds words."""

    def __init__(
        self, survey: Survey, objects: Sequence[str], attributes: Sequence[str], *, float16: bool
    ) -> None:
        self._survey = survey
        self._float16 = float16
        self.objects = Vocabulary(objects)
        self.attributes = Vocabulary(attributes)

    def __call__(
        self, found: Found, true_hw: tuple[int, int] | None
    ) -> tuple[RegionBatch | None, list[Flag], str]:
        """Correct one image.

        Args:
            found: What the file holds.
            true_hw: Height and width of the photograph, where they are known.

        Returns:
            The regions as a batch of one image; None where they cannot be kept. What was noticed.
            The reason why they cannot be kept.
        """
        # "normalized-boxes" is said again, and with the numbers, when they are multiplied.
        flags = [Flag(remark, "") for remark in found.remarks if remark != "normalized-boxes"]
        try:
            # Labels first: what is wrong with them is of interest even if the boxes are useless.
            heads = self._heads(found, flags)
            features = self._features(found, flags)
            boxes, hw, seen = place(found, self._survey.frame, true_hw)
        except RowError as error:
            return None, flags, str(error)
        flags += seen
        if len(features) != len(boxes):
            return None, flags, f"{len(boxes)} boxes, but {len(features)} vectors"
        row = RegionBatch(
            np.array([hw], np.int32), np.array([len(boxes)], np.int32), boxes, features, **heads
        )
        return row, flags, ""

    def _features(self, found: Found, flags: list[Flag]) -> np.ndarray:
        """Check the vectors, and bring them into the type in which they are stored."""
        values = np.asarray(found.visual_feats)
        dim, kind = self._survey.feature_dim, np.float16 if self._float16 else np.float32
        if not len(found.boxes) and not values.size:
            return np.zeros((0, dim), kind)
        if values.ndim != 2 or values.shape[1] != dim:
            raise RowError(f"vectors are of the shape {values.shape}, those of the file (R, {dim})")
        values = values.astype(np.float32, copy=False)
        if not values.size:
            return values.astype(kind)
        least, largest = float(values.min()), float(values.max())
        if not np.isfinite([least, largest]).all():  # min and max pass on what is not finite
            raise RowError("vectors have a value that is not finite")
        if dim == POOLED and least < 0:
            count = int((values < 0).sum())
            flags.append(Flag("features-negative", f"{count:,} values, down to {least:.3g}"))
        if self._float16 and max(-least, largest) > _LARGEST_FLOAT16:
            flags.append(Flag("features-clipped", f"up to {max(-least, largest):.6g}"))
            values = np.clip(values, -_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        # One image at a time stays in the processor's cache.
        return values.astype(kind, copy=False)

    def _heads(self, found: Found, flags: list[Flag]) -> dict[str, np.ndarray | None]:
        objects, object_probs = _head(
            "object", found.obj_ids, found.obj_names, found.obj_probs, found, self.objects, flags
        )
        attributes, attribute_probs = _head(
            *("attribute", found.attr_ids, found.attr_names, found.attr_probs),
            *(found, self.attributes, flags),
        )
        floats = [flag.detail for flag in flags if flag.flag == "float-ids"]
        if len(floats) > 1:
            flags[:] = [flag for flag in flags if flag.flag != "float-ids"]
            flags.append(Flag("float-ids", ", ".join(floats)))
        if objects is not None and len(objects) >= MANY:
            label, count = Counter(objects.tolist()).most_common(1)[0]
            if count >= NEARLY_ALL * len(objects):
                name = _name(self.objects.names, label)
                flags.append(Flag("one-label", f"{name} on {count} of {len(objects)} boxes"))
        return {
            "obj_ids": objects,
            "obj_probs": object_probs,
            "attr_ids": attributes,
            "attr_probs": attribute_probs,
        }


def _head(
    kind: str,
    ids: np.ndarray | None,
    words: Sequence[str] | None,
    probs: np.ndarray | None,
    found: Found,
    vocabulary: Vocabulary,
    flags: list[Flag],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Check ids and scores of one kind; neither where the file has none."""
    count = len(found.boxes)
    if words is not None:
        ids = vocabulary.ids(words)
    if ids is None:
        return None, None
    ids = np.asarray(ids)
    if ids.shape != (count,):
        raise RowError(f"{kind} ids are of the shape {ids.shape}, but there are {count} boxes")
    if probs is not None:
        probs = np.asarray(probs, np.float32)
        if probs.shape != (count,):
            raise RowError(f"{kind} scores are {probs.shape} numbers for {count} boxes")
        if not np.isfinite(probs).all():
            raise RowError(f"{kind} scores have a value that is not finite")
        if count and not probs.any() and not ids.any() and words is None:
            flags.append(Flag(f"no-{kind}s", ""))
            return None, None
    if ids.dtype.kind == "f" and count:
        if not (np.isfinite(ids).all() and (ids == np.round(ids)).all()):
            raise RowError(f"{kind} ids are no whole numbers ({ids[:3].tolist()}...)")
        flags.append(Flag("float-ids", f"{kind} ids"))
    if count and (ids.min() < 0 or ids.max() >= 2**31):
        raise RowError(f"{kind} ids go from {ids.min()} to {ids.max()}; they count from 0")
    if count and vocabulary.names and ids.max() >= len(vocabulary.names):
        detail = f"{kind} id {int(ids.max())}, but {len(vocabulary.names):,} names"
        if ids.max() == len(vocabulary.names) and ids.min() > 0:
            detail += "; perhaps the ids count from 1"
        flags.append(Flag("labels-unknown", detail))
    return ids.astype(np.int32), probs


def _name(names: Sequence[str], label: int) -> str:
    return repr(names[label]) if label < len(names) else f"label {label}"
