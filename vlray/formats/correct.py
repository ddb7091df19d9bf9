"""Convert one image in a source file to a row of the regions table, or to a failure.

Shapes: R: regions in one image; D: feature length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vlray.formats.flags import Flag, RowError
from vlray.formats.frame import boxes_in_pixels
from vlray.formats.labels import Vocabulary
from vlray.formats.readers.protocol import RawRegions
from vlray.formats.survey import Survey
from vlray.regions.batch import RegionBatch
from vlray.settings.wording import counted

MIN_REGIONS_ONE_LABEL = 10  # with fewer regions, a shared label may be a coincidence
ONE_LABEL_SHARE = 0.85
POOLED_DIM = 2048  # vectors of this length are means of ReLU outputs, so never negative

_LARGEST_FLOAT16 = 65504.0


class Corrector:
    """Converter from a reader's raw regions to rows.

    If the file has words instead of ids, the vocabularies grow while the file is read.
    """

    def __init__(
        self, survey: Survey, objects: Sequence[str], attributes: Sequence[str], *, float16: bool
    ) -> None:
        self._survey = survey
        self._float16 = float16
        self.objects = Vocabulary(objects)
        self.attributes = Vocabulary(attributes)

    def __call__(
        self, raw: RawRegions, true_hw: tuple[int, int] | None
    ) -> tuple[RegionBatch | None, list[Flag], str]:
        """Check and correct the regions of one image.

        Args:
            raw: Regions as stored in the file.
            true_hw: Height and width of the photograph; None if unknown.

        Returns:
            The regions as a batch of one image, or None if they are invalid; the flags; and the
            reason why they are invalid ("" if they are valid).
        """
        # "normalized-boxes" is omitted: scaling the boxes adds a flag that includes the sizes.
        flags = [Flag(remark, "") for remark in raw.remarks if remark != "normalized-boxes"]
        try:
            # Labels first: their flags are worth reporting even if the boxes are unusable.
            heads = self._heads(raw, flags)
            features = self._features(raw, flags)
            boxes, hw, box_flags = boxes_in_pixels(raw, self._survey.frame, true_hw)
        except RowError as error:
            return None, flags, str(error)
        flags += box_flags
        if len(features) != len(boxes):
            return (
                None,
                flags,
                (
                    f"the image has {counted(len(boxes), 'box', 'boxes')}, but "
                    f"{counted(len(features), 'feature vector')}"
                ),
            )
        if max(hw) > np.iinfo(np.int32).max:
            return None, flags, f"the image size {hw[0]:,} x {hw[1]:,} is impossible"
        row = RegionBatch(
            np.array([hw], np.int32), np.array([len(boxes)], np.int32), boxes, features, **heads
        )
        return row, flags, ""

    def _features(self, raw: RawRegions, flags: list[Flag]) -> np.ndarray:
        """Check the vectors and convert them to the stored dtype."""
        values = np.asarray(raw.visual_feats)
        dim, kind = self._survey.feature_dim, np.float16 if self._float16 else np.float32
        if not len(raw.boxes) and not values.size:
            return np.zeros((0, dim), kind)
        if values.ndim != 2 or values.shape[1] != dim:
            raise RowError(
                f"feature vectors have shape {values.shape}, but those of other images in the "
                f"file have shape (R, {dim})"
            )
        values = values.astype(np.float32, copy=False)
        if not values.size:
            return values.astype(kind)
        least, largest = float(values.min()), float(values.max())
        if not np.isfinite([least, largest]).all():  # min and max propagate NaN and inf
            raise RowError("feature vectors contain a non-finite value")
        if dim == POOLED_DIM and least < 0:
            count = int((values < 0).sum())
            flags.append(Flag("features-negative", f"{count:,} values, down to {least:.3g}"))
        if self._float16 and max(-least, largest) > _LARGEST_FLOAT16:
            flags.append(Flag("features-clipped", f"up to {max(-least, largest):.6g}"))
            values = np.clip(values, -_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        # Cast one image at a time: its vectors fit in the processor's cache.
        return values.astype(kind, copy=False)

    def _heads(self, raw: RawRegions, flags: list[Flag]) -> dict[str, np.ndarray | None]:
        objects, object_probs = _head(
            "object", raw.obj_ids, raw.obj_names, raw.obj_probs, raw, self.objects, flags
        )
        attributes, attribute_probs = _head(
            *("attribute", raw.attr_ids, raw.attr_names, raw.attr_probs),
            *(raw, self.attributes, flags),
        )
        # Merge the flags for objects and attributes, so that the image is counted once.
        floats = [flag.detail for flag in flags if flag.flag == "float-ids"]
        if len(floats) > 1:
            flags[:] = [flag for flag in flags if flag.flag != "float-ids"]
            flags.append(Flag("float-ids", ", ".join(floats)))
        # One label on nearly all regions suggests that the detector got wrong input.
        if objects is not None and len(objects) >= MIN_REGIONS_ONE_LABEL:
            label, count = Counter(objects.tolist()).most_common(1)[0]
            if count >= ONE_LABEL_SHARE * len(objects):
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
    raw: RawRegions,
    vocabulary: Vocabulary,
    flags: list[Flag],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Check the ids and scores of one kind of label; return None for both if there are none."""
    count = len(raw.boxes)
    if words is not None:
        ids = vocabulary.ids(words)
    if ids is None:
        return None, None
    ids = np.asarray(ids)
    if ids.shape != (count,):
        raise RowError(
            f"{kind} ids have shape {ids.shape}, but the image has {counted(count, 'box', 'boxes')}"
        )
    if probs is not None:
        probs = np.asarray(probs, np.float32)
        if probs.shape != (count,):
            raise RowError(
                f"{kind} scores have shape {probs.shape}, but the image has "
                f"{counted(count, 'box', 'boxes')}"
            )
        if not np.isfinite(probs).all():
            raise RowError(f"{kind} scores contain a non-finite value")
        # Writers fill ids and scores with zeros if the detector has no such head.
        if count and not probs.any() and not ids.any() and words is None:
            flags.append(Flag(f"no-{kind}s", ""))
            return None, None
    if ids.dtype.kind == "f" and count:
        if not (np.isfinite(ids).all() and (ids == np.round(ids)).all()):
            raise RowError(
                f"{kind} ids must be integers, but are {', '.join(map(str, ids[:3].tolist()))}, ..."
            )
        flags.append(Flag("float-ids", f"{kind} ids"))
    if count and (ids.min() < 0 or ids.max() >= 2**31):
        raise RowError(
            f"{kind} ids range from {ids.min()} to {ids.max()}, but must be in 0 to 2**31 - 1"
        )
    if count and vocabulary.names and ids.max() >= len(vocabulary.names):
        detail = f"{kind} id {int(ids.max())} with only {counted(len(vocabulary.names), 'name')}"
        if ids.max() == len(vocabulary.names) and ids.min() > 0:
            detail += "; the ids may count from 1"
        flags.append(Flag("labels-unknown", detail))
    return ids.astype(np.int32), probs


def _name(names: Sequence[str], label: int) -> str:
    return repr(names[label]) if label < len(names) else f"label {label}"
