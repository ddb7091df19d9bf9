"""Selection rules: which proposals become regions, for any number of images at once.

Extraction selects from one image at a time; ``vlray tune`` selects again, under other options, from
the stored proposals of all images. Both use this implementation. Its input is what the rows of an
output hold: boxes in pixels of the original image, their best class and its probability. For
``vg-caffe``, the probabilities of all classes are needed too.

Shapes: N images, P proposals of all images, R selected regions of all images, K classes.
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

NMS_THRESH = 0.5  # for nms_thresh=0 and a detector without a default of its own
_CACHED_THRESHOLDS = 32  # NMS thresholds of vg-caffe whose confidences are cached
_TOP = 4  # times max_boxes: number of best proposals that are tried first


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals of N images, concatenated, in their detector's order.

    Attributes:
        offsets: Index of each image's first proposal, and P as the last element.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image, as stored in an output.
        obj_ids: Best class of each proposal.
        scores: Probability of that class.
    """

    offsets: Int64[np.ndarray, " N1"]
    boxes: Float32[np.ndarray, "P 4"]
    obj_ids: Int32[np.ndarray, " P"] | Int64[np.ndarray, " P"]
    scores: Float32[np.ndarray, " P"]

    @property
    def images(self) -> Int64[np.ndarray, " P"]:
        """Index of each proposal's image."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class Rule(Protocol):
    """Proposals with the selection rule of a detector."""

    def remember(self) -> None:
        """Compute and store what many selections share."""

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Select regions.

        Returns:
            Indices of the selected proposals, image by image in their order, and the number of
            regions of each image.
        """
        ...


class BestClass:
    """Selection rule on each proposal's best class, by descending score after NMS.

    Survivors with a score of at least ``score_thresh`` are selected: at most ``max_boxes`` of an
    image, and at least ``min_boxes``, if necessary with lower scores. Equal scores keep the
    proposals' order. Of several NMS thresholds, each image uses the first that leaves ``min_boxes``
    survivors, or the last.
    """

    def __init__(
        self,
        proposals: Proposals,
        *,
        nms_thresh: tuple[float, ...] = (NMS_THRESH,),
        within_class: bool = True,
        filled: bool = True,
    ) -> None:
        """Sort proposals by score.

        Args:
            proposals: Proposals of N images.
            nms_thresh: NMS thresholds, used if the options have none.
            within_class: Whether boxes suppress only boxes of the same class.
            filled: Whether to drop boxes without an area and boxes or scores that are not finite.
        """
        images, scores = proposals.images, proposals.scores
        # np.lexsort is stable: equal scores keep the proposals' order.
        order = np.lexsort((-scores, images))
        if filled:
            order = order[_usable(proposals.boxes[order], scores[order])]
        self._thresholds = nms_thresh
        self._order, self._images, self._scores = order, images[order], scores[order]
        self._num_images = len(proposals.offsets) - 1
        groups = self._images.astype(np.int64)
        if within_class and len(order):
            classes = proposals.obj_ids[order].astype(np.int64)
            groups = groups * (int(classes.max()) + 1) + classes  # a number per image and class
        self._suppression = Suppression(proposals.boxes[order], groups)

    def remember(self) -> None:
        """Compute and store all overlaps."""
        self._suppression.remember()

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Select regions, image by image in descending order of score; see ``Rule``."""
        survives = self._survivors(options)
        numbers = self._count(survives & (self._scores >= np.float32(options.score_thresh)))
        numbers = np.clip(numbers, options.min_boxes, options.max_boxes)
        # The survivors are sorted by image and score, so each image keeps its first ones.
        rows = survives.nonzero()[0]
        counts = np.bincount(self._images[rows], minlength=self._num_images)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = rows[rank < numbers[self._images[rows]]]
        return self._order[rows], self._count(rows)

    def _survivors(self, options: DetectorSection) -> Bool[np.ndarray, " P"]:
        """Run NMS; images with fewer than ``min_boxes`` survivors get the next threshold."""
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
        """Count the selected boxes of each image."""
        return np.bincount(self._images[which], minlength=self._num_images)


class EachClass:
    """Selection rule on all classes: a proposal is kept if it survives NMS in any class.

    Its confidence is its highest probability among the classes in which it survives. If the number
    of proposals that reach ``score_thresh`` is within the limits, they are selected in the
    proposals' order, otherwise by descending confidence.

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
        """Store the proposals and the source of their class probabilities.

        Args:
            proposals: Proposals of N images.
            class_probs: Returns the class probabilities of an image, by its index.
            nms_thresh: NMS threshold, used if the options have none.
            plus_one: Whether a box from 0 to 15 is 16 pixels wide.
        """
        self._offsets, self._boxes = proposals.offsets, proposals.boxes
        self._class_probs = class_probs
        self._nms_thresh, self._plus_one = nms_thresh, plus_one
        self._confidence: dict[float, Float32[np.ndarray, " P"]] = {}

    def remember(self) -> None:
        """Do nothing: ``select`` caches the confidences of each NMS threshold."""

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Select regions, image by image; see ``Rule``."""
        nms_thresh = options.nms_thresh or self._nms_thresh
        if nms_thresh not in self._confidence:
            if len(self._confidence) == _CACHED_THRESHOLDS:
                self._confidence.pop(next(iter(self._confidence)))
            self._confidence[nms_thresh] = self._confidence_at(nms_thresh)
        confidence = self._confidence[nms_thresh]
        selected = []
        for start, end in zip(self._offsets[:-1].tolist(), self._offsets[1:].tolist(), strict=True):
            selected.append(start + most_confident(confidence[start:end], options))
        numbers = np.array([len(rows) for rows in selected], np.int64)
        return np.concatenate([np.zeros(0, np.int64), *selected]), numbers

    def _confidence_at(self, nms_thresh: float) -> Float32[np.ndarray, " P"]:
        """Compute the confidence of every proposal, image by image."""
        confidence = np.zeros(len(self._boxes), np.float32)
        for image, start in enumerate(self._offsets[:-1].tolist()):
            rows = slice(start, int(self._offsets[image + 1]))
            boxes = self._boxes[rows].astype(np.float64)
            if self._plus_one:  # as visual_genome.proposals.widened
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
    """Select the regions of one image by the rule ``BestClass``, trying the best proposals first.

    A box never suppresses a box of a higher score. If the best proposals alone leave ``max_boxes``
    survivors at the first threshold, the other proposals cannot change the result.

    Args:
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        obj_ids: Best class of each proposal.
        scores: Probability of that class.
        options: Thresholds and limits.
        nms_thresh: As in ``BestClass``.
        within_class: As in ``BestClass``.
        filled: As in ``BestClass``.

    Returns:
        Indices of the selected proposals, in descending order of score.
    """
    rule_args: dict[str, Any] = {
        "nms_thresh": nms_thresh,
        "within_class": within_class,
        "filled": filled,
    }
    order = np.argsort(-scores, kind="stable")
    top = order[: _TOP * options.max_boxes]
    first = options.nms_thresh or nms_thresh[0]
    # These options select max_boxes survivors of the first threshold, if there are as many.
    probe = options.model_copy(
        update={"min_boxes": options.max_boxes, "nms_thresh": first, "score_thresh": 0.0}
    )
    for rows in (top, order):
        offsets = np.array([0, len(rows)])
        rule = BestClass(Proposals(offsets, boxes[rows], obj_ids[rows], scores[rows]), **rule_args)
        rule.remember()
        if len(rows) == len(order) or len(rule.select(probe)[0]) == options.max_boxes:
            break
    selected: Int64[np.ndarray, " R"] = rows[rule.select(options)[0]]
    return selected


def most_confident(
    confidence: Float32[np.ndarray, " P"], options: DetectorSection
) -> Int64[np.ndarray, " R"]:
    """Select the regions of one image by the rule ``EachClass``, from their confidence."""
    confident = (confidence >= np.float32(options.score_thresh)).nonzero()[0]
    if options.min_boxes <= len(confident) <= options.max_boxes:
        return confident
    limit = options.min_boxes if len(confident) < options.min_boxes else options.max_boxes
    falling: Int64[np.ndarray, " P"] = np.argsort(-confidence, kind="stable")
    return falling[:limit]


def _usable(
    boxes: Float32[np.ndarray, "P 4"], scores: Float32[np.ndarray, " P"]
) -> Bool[np.ndarray, " P"]:
    """Return which boxes are finite, have an area and have a finite score."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    usable: Bool[np.ndarray, " P"] = finite & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return usable
