"""Selection rules: which proposals become regions, for any number of images at once.

Extraction selects from one image at a time; ``vlray tune`` selects again, with other options, from
the stored proposals of all images. Both use these rules, whose input is what an output stores:
boxes in pixels of the original image, and each box's best class with its probability. ``vg-caffe``
also needs the probabilities of all classes.

Shapes: N: images; N1: N + 1; P: proposals of all images; R: selected regions of all images;
K: classes.
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

NMS_THRESH = 0.5  # if nms_thresh=0 and the detector has no default
_CACHED_THRESHOLDS = 32  # number of NMS thresholds for which EachClass caches confidences
_TOP = 4  # select_one tries the best _TOP * max_boxes proposals first


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals of N images, concatenated, in the detector's order.

    Attributes:
        offsets: Index of each image's first proposal, followed by P.
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
    """A detector's selection rule, together with the proposals to select from."""

    def remember(self) -> None:
        """Compute and store what repeated selections have in common."""

    def select(
        self, options: DetectorSection
    ) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " N"]]:
        """Select regions with the given thresholds and limits.

        Returns:
            Indices of the selected proposals, image by image in the images' order, and the number
            of regions in each image.
        """
        ...


class BestClass:
    """Selection rule: NMS on each proposal's best class, then the highest scores.

    In each image, survivors with a score of at least ``score_thresh`` are selected: at most
    ``max_boxes``, and at least ``min_boxes``, if necessary with lower scores. Ties keep the
    proposals' order. If there are several NMS thresholds, each image uses the first that leaves
    ``min_boxes`` survivors, or else the last.
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
            nms_thresh: NMS thresholds, used if ``nms_thresh`` is 0 in the options.
            within_class: Whether boxes suppress only boxes of the same class.
            filled: Whether to drop proposals whose box has no area, or whose box or score is not
                finite.

        Raises:
            ValueError: No proposal has a score, because the network's numbers are not finite.
        """
        images, scores = proposals.images, proposals.scores
        # Without this, the image would have no regions, as if nothing was on it.
        if len(scores) and np.isnan(scores).all():
            raise ValueError(
                "all scores are NaN: the weights have non-finite or far too large values; "
                "download them again, or use the weights of this network"
            )
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
            groups = groups * (int(classes.max()) + 1) + classes  # unique per image and class
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
        # Survivors are sorted by image and then by score, so each image keeps its first ones.
        rows = survives.nonzero()[0]
        counts = np.bincount(self._images[rows], minlength=self._num_images)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = rows[rank < numbers[self._images[rows]]]
        return self._order[rows], self._count(rows)

    def _survivors(self, options: DetectorSection) -> Bool[np.ndarray, " P"]:
        """Run NMS; retry images with fewer than ``min_boxes`` survivors at the next threshold."""
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
    """Selection rule: NMS in every class, then the proposals with the highest confidences.

    A proposal's confidence is its highest probability among the classes in which it survives. If
    the number of proposals with a confidence of at least ``score_thresh`` is within the limits,
    exactly these are selected, in the proposals' order. Otherwise ``min_boxes`` or ``max_boxes``
    proposals are selected, by descending confidence.

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
        """Store the proposals and the function that returns their class probabilities.

        Args:
            proposals: Proposals of N images.
            class_probs: Function from an image's index to the class probabilities of its
                proposals.
            nms_thresh: NMS threshold, used if ``nms_thresh`` is 0 in the options.
            plus_one: Whether a box from 0 to 15 counts as 16 pixels wide.
        """
        self._offsets, self._boxes = proposals.offsets, proposals.boxes
        self._class_probs = class_probs
        self._nms_thresh, self._plus_one = nms_thresh, plus_one
        self._confidence: dict[float, Float32[np.ndarray, " P"]] = {}

    def remember(self) -> None:
        """Do nothing: ``select`` caches the confidences for each NMS threshold."""

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
        """Compute every proposal's confidence at an NMS threshold, image by image."""
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

    A box never suppresses a box with a higher score. So if the best proposals alone leave
    ``max_boxes`` survivors at the first threshold, the others cannot change the result.

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
    # These options select max_boxes survivors of the first threshold, if there are that many.
    probe = options.model_copy(
        update={"min_boxes": options.max_boxes, "nms_thresh": first, "score_thresh": 0.0}
    )
    for rows in (top, order):
        offsets = np.array([0, len(rows)])
        rule = BestClass(Proposals(offsets, boxes[rows], obj_ids[rows], scores[rows]), **rule_args)
        rule.remember()  # both selections below need the overlaps
        if len(rows) == len(order) or len(rule.select(probe)[0]) == options.max_boxes:
            break
    selected: Int64[np.ndarray, " R"] = rows[rule.select(options)[0]]
    return selected


def most_confident(
    confidence: Float32[np.ndarray, " P"], options: DetectorSection
) -> Int64[np.ndarray, " R"]:
    """Select the regions of one image by the rule ``EachClass``, given all confidences."""
    confident = (confidence >= np.float32(options.score_thresh)).nonzero()[0]
    if options.min_boxes <= len(confident) <= options.max_boxes:
        return confident
    limit = options.min_boxes if len(confident) < options.min_boxes else options.max_boxes
    falling: Int64[np.ndarray, " P"] = np.argsort(-confidence, kind="stable")
    return falling[:limit]


def _usable(
    boxes: Float32[np.ndarray, "P 4"], scores: Float32[np.ndarray, " P"]
) -> Bool[np.ndarray, " P"]:
    """Return which boxes are finite and have both a positive area and a finite score."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    usable: Bool[np.ndarray, " P"] = finite & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return usable
