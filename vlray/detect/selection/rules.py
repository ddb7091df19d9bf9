"""The rules by which an image's proposals become its regions, for any number of images at once.

One implementation decides while images are extracted, one at a time, and when regions are selected
again, under other options, from proposals that were kept. It looks at what the rows of an output
hold: boxes in pixels of the original image, the best class of each and its probability; and for
``vg-caffe`` at the probabilities of all classes.

Shapes: N images, P proposals of all of them, R regions kept of all of them, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import CAFFE
from vlray.detect.selection.per_class import confidence_of
from vlray.detect.selection.suppression import Suppression

NMS_THRESH = 0.5  # where the options leave it to a detector that has none of its own
_THRESHOLDS = 32  # of vg-caffe whose confidences are remembered
_TOP = 4  # times max_boxes: proposals of an image that are looked at first


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals of N images, flat, in the order in which their detector gives them.

    Attributes:
        offsets: Where each image's begin, and at the end P.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image, as an output has them.
        obj_ids: Best class of each.
        scores: Its probability.
    """

    offsets: Int64[np.ndarray, " N1"]
    boxes: Float32[np.ndarray, "P 4"]
    obj_ids: Int32[np.ndarray, " P"] | Int64[np.ndarray, " P"]
    scores: Float32[np.ndarray, " P"]

    @property
    def images(self) -> Int64[np.ndarray, " P"]:
        """The image of each proposal."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class Rule(Protocol):
    """Proposals under the rule of a kind of detector."""

    def remember(self) -> None:
        """Prepare for many selections."""

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Give the proposals that are kept, image by image in their order, and their numbers."""
        ...


class BestClass:
    """Each proposal with its best class: by falling score, those that survive suppression.

    Survivors that score ``score_thresh`` or more are kept, of an image at least ``min_boxes`` of
    them, if need be with lower scores, and at most ``max_boxes``. Equal scores keep the proposals'
    order. Of several thresholds the first is taken that leaves ``min_boxes``, else the last.
    """

    def __init__(
        self,
        proposals: Proposals,
        *,
        nms_thresh: tuple[float, ...] = (NMS_THRESH,),
        within_class: bool = True,
        filled: bool = True,
    ) -> None:
        """Bring proposals into the order of their scores.

        Args:
            proposals: Of N images.
            nms_thresh: Where the options give none.
            within_class: Whether boxes suppress those of their class only, or all.
            filled: Whether boxes without an area and what is not finite are left out.
        """
        images, scores = proposals.images, proposals.scores
        # Stable, as the indices of equal scores rise.
        order = np.lexsort((-scores, images))
        if filled:
            order = order[_usable(proposals.boxes[order], scores[order])]
        self._thresholds = nms_thresh
        self._order, self._images, self._scores = order, images[order], scores[order]
        self._num_images = len(proposals.offsets) - 1
        groups = self._images.astype(np.int64)
        if within_class and len(order):
            classes = proposals.obj_ids[order].astype(np.int64)
            groups = groups * (int(classes.max()) + 1) + classes
        self._suppression = Suppression(proposals.boxes[order], groups)

    def remember(self) -> None:
        """Find all overlaps now."""
        self._suppression.remember()

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Give the proposals that are kept, image by image by falling score, and their numbers."""
        survives = self._survivors(options)
        numbers = self._count(survives & (self._scores >= np.float32(options.score_thresh)))
        numbers = np.clip(numbers, options.min_boxes, options.max_boxes)
        kept = survives.nonzero()[0]
        found = np.bincount(self._images[kept], minlength=self._num_images)
        rank = np.arange(len(kept)) - np.repeat(np.cumsum(found) - found, found)
        kept = kept[rank < numbers[self._images[kept]]]
        return self._order[kept], self._count(kept)

    def _survivors(self, options: DetectorSection) -> Bool[np.ndarray, " P"]:
        first, *others = (options.nms_thresh,) if options.nms_thresh else self._thresholds
        survives = self._suppression.survivors(first)
        for nms_thresh in others:
            few = self._count(survives) < options.min_boxes
            if not few.any():
                break
            survives = np.where(
                few[self._images], self._suppression.survivors(nms_thresh), survives
            )
        return survives

    def _count(self, which: np.ndarray) -> Int64[np.ndarray, " N"]:
        """Count boxes by image."""
        return np.bincount(self._images[which], minlength=self._num_images)


class EachClass:
    """A proposal stays as long as it survives suppression in any of its classes.

    Its confidence is its highest probability of those classes. In the proposals' order where the
    number of those that reach ``score_thresh`` is within the limits, else by falling confidence.

    Source:
        generate_tsv.py of bottom-up attention.
    """

    def __init__(
        self,
        proposals: Proposals,
        class_probs: Callable[[int], Float32[np.ndarray, "P K"]],
        *,
        nms_thresh: float = CAFFE.nms_thresh[0],
        plus_one: bool = True,
    ) -> None:
        """Take proposals with the probabilities of all classes.

        Args:
            proposals: Of N images.
            class_probs: Gives those of an image.
            nms_thresh: Where the options give none.
            plus_one: Whether a box from 0 to 15 is 16 pixels wide.
        """
        self._offsets, self._boxes = proposals.offsets, proposals.boxes
        self._class_probs = class_probs
        self._nms_thresh, self._plus_one = nms_thresh, plus_one
        self._confidence: dict[float, Float32[np.ndarray, " P"]] = {}

    def remember(self) -> None:
        """Do nothing: what one threshold costs is remembered when it is asked for."""

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Give the proposals that are kept, image by image in their order, and their numbers."""
        nms_thresh = options.nms_thresh or self._nms_thresh
        if nms_thresh not in self._confidence:
            if len(self._confidence) == _THRESHOLDS:
                self._confidence.pop(next(iter(self._confidence)))
            self._confidence[nms_thresh] = self._confidence_at(nms_thresh)
        confidence = self._confidence[nms_thresh]
        kept = []
        for start, end in zip(self._offsets[:-1].tolist(), self._offsets[1:].tolist(), strict=True):
            kept.append(start + most_confident(confidence[start:end], options))
        numbers = np.array([len(rows) for rows in kept], np.int64)
        return np.concatenate([np.zeros(0, np.int64), *kept]), numbers

    def _confidence_at(self, nms_thresh: float) -> Float32[np.ndarray, " P"]:

        confidence = np.zeros(len(self._boxes), np.float32)
        for image, start in enumerate(self._offsets[:-1].tolist()):
            rows = slice(start, int(self._offsets[image + 1]))
            boxes = self._boxes[rows].astype(np.float64)
            if self._plus_one:
                boxes[:, 2:] += 1
            confidence[rows] = confidence_of(boxes, self._class_probs(image), nms_thresh)
        return confidence


def select_one(
    boxes: Float32[np.ndarray, "P 4"],
    obj_ids: Int64[np.ndarray, " P"],
    scores: Float32[np.ndarray, " P"],
    options: DetectorSection,
    *,
    nms_thresh: tuple[float, ...] = (NMS_THRESH,),
    within_class: bool = True,
    filled: bool = True,
) -> Int64[np.ndarray, " R"]:
    """Select among the proposals of one image as ``BestClass`` does, the best of them first.

    Nothing that scores lower suppresses what scores higher: if the top of them leaves
    ``max_boxes`` at the first threshold, the rest is never looked at.
    """
    kinds: dict[str, Any] = {
        "nms_thresh": nms_thresh,
        "within_class": within_class,
        "filled": filled,
    }
    order = np.argsort(-scores, kind="stable")
    top = order[: _TOP * options.max_boxes]
    first = options.nms_thresh or nms_thresh[0]
    wanted = options.model_copy(
        update={"min_boxes": options.max_boxes, "nms_thresh": first, "score_thresh": 0.0}
    )
    for rows in (top, order):
        offsets = np.array([0, len(rows)])
        rule = BestClass(Proposals(offsets, boxes[rows], obj_ids[rows], scores[rows]), **kinds)
        rule.remember()
        if len(rows) == len(order) or len(rule.select(wanted)[0]) == options.max_boxes:
            break
    kept: Int64[np.ndarray, " R"] = rows[rule.select(options)[0]]
    return kept


def most_confident(
    confidence: Float32[np.ndarray, " P"], options: DetectorSection
) -> Int64[np.ndarray, " R"]:
    """Choose among the proposals of one image as ``EachClass`` does, by their confidence."""
    kept = (confidence >= np.float32(options.score_thresh)).nonzero()[0]
    if options.min_boxes <= len(kept) <= options.max_boxes:
        return kept
    limit = options.min_boxes if len(kept) < options.min_boxes else options.max_boxes
    falling: Int64[np.ndarray, " P"] = np.argsort(-confidence, kind="stable")
    return falling[:limit]


def _usable(
    boxes: Float32[np.ndarray, "P 4"], scores: Float32[np.ndarray, " P"]
) -> Bool[np.ndarray, " P"]:
    """Tell which boxes are finite and have an area, and a finite score."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    usable: Bool[np.ndarray, " P"] = finite & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return usable
