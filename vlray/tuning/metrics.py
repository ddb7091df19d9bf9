"""Metrics of selected regions: how many there are, and how many ground-truth boxes they recall.

Shapes: N: images; R: regions in all images; G: ground-truth boxes in all images; E: pairs of a
region and a ground-truth box in the same image; T: IoU thresholds.

pycocotools is not used, because a search measures every selection: COCOeval takes 7 times as long
(2.44 s instead of 0.35 s for 281 images, 28,100 regions and 3,372 boxes). A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vlray.regions.overlap import iou_of_pairs
from vlray.tuning.candidates import Candidates
from vlray.tuning.selected import Selection
from vlray.tuning.truth import Truth

IOUS = np.linspace(0.5, 0.95, 10)
TOP = (10, 36, 100)

_NOBODY = np.iinfo(np.int64).max
_PAIRS_AT_A_TIME = 1 << 20  # limits the memory for the IoUs

_Pairs = tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"], Float64[np.ndarray, " E"]]
"""For each pair: index of the region, index of the ground-truth box, and IoU of the two."""


def selection_metrics(
    selection: Selection, candidates: Candidates, truth: Truth | None
) -> dict[str, float]:
    """Compute the metrics of a selection.

    Args:
        selection: Regions selected from the candidates.
        candidates: Proposals of N images.
        truth: Ground-truth boxes for at least one of the images. None: compute only ``boxes``.

    Returns:
        ``boxes``: mean number of regions per image. If ``truth`` is given, also recalls of the
        ground-truth boxes in these images, regardless of class and without crowds:

        - ``ar@10``, ``ar@36``, ``ar@100``: share of the boxes that the 10, 36 or 100 most probable
          regions of their image match at IoU 0.5. As in COCO's evaluation without categories, each
          region matches at most one box: the box with the highest IoU that no region with a higher
          probability has matched.
        - ``ar@10:0.5:0.95`` and so on: mean over the IoUs 0.5, 0.55, ... 0.95, as in COCO's AR.
        - ``recall``, ``recall:0.5:0.95``: the same for all regions.

    Raises:
        ValueError: The truth has none of the images.
    """
    metrics = {"boxes": len(selection) / len(candidates.image_ids)}
    if truth is not None:
        metrics |= recalls(selection, candidates.image_ids, truth)
    return metrics


def recalls(selection: Selection, image_ids: Sequence[str], truth: Truth) -> dict[str, float]:
    """Compute the recalls of ``selection_metrics`` for the images with these ids."""
    pairs, counted = _pairs(selection, image_ids, truth)
    # (T, G): rank of the region that matches each ground-truth box. One matching serves all
    # limits, because a region never changes the match of a more probable one.
    ranks = _match(*pairs, _ranks(selection), len(truth))
    metrics = {}
    for name, limit in [(f"ar@{top}", top) for top in TOP] + [("recall", _NOBODY)]:
        at_iou = (ranks[:, counted] < limit).mean(axis=1) if counted.any() else np.full(10, np.nan)
        metrics[name] = float(at_iou[0])
        metrics[f"{name}:0.5:0.95"] = float(at_iou.mean())
    return metrics


def _pairs(
    selection: Selection, image_ids: Sequence[str], truth: Truth
) -> tuple[_Pairs, Bool[np.ndarray, " G"]]:
    """Pair each region with the ground-truth boxes in its image that have an IoU of at least 0.5.

    Returns:
        The pairs, and a mask of the ground-truth boxes that count for the recall.
    """
    index = _truth_index(image_ids, truth)
    counts = np.diff(truth.offsets)
    counted = ~truth.ignored & np.isin(np.repeat(np.arange(len(counts)), counts), index)
    boxes = truth.boxes[counted].T
    region_boxes = selection.boxes.astype(np.float64).T
    offsets = np.concatenate([[0], np.cumsum(counted)])[truth.offsets]
    image = index[selection.images]
    # Index -1 marks images without ground truth; as an index, it would be the last image.
    partners = np.where(image < 0, 0, np.diff(offsets)[image])
    blocks = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start, end in _blocks(partners):
        rows = slice(start, end)
        # Enumerate for each region all boxes in its image, without a Python loop.
        first = np.repeat(np.arange(start, end), partners[rows])
        begin = offsets[image[rows]] - np.cumsum(partners[rows]) + partners[rows]
        second = np.arange(len(first)) + np.repeat(begin, partners[rows])
        iou = iou_of_pairs(region_boxes[:, first], boxes[:, second])
        near = iou >= IOUS[0]
        blocks.append((first[near], second[near], iou[near]))
    first, second, iou = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return (first, np.flatnonzero(counted)[second], iou), counted


def _truth_index(image_ids: Sequence[str], truth: Truth) -> Int64[np.ndarray, " N"]:
    """Return the index of each image in ``truth``; -1 for images that it does not contain.

    Raises:
        ValueError: The truth contains none of the images.
    """
    index_of = {image_id: at for at, image_id in enumerate(truth.image_ids)}
    index = np.array([index_of.get(image_id, -1) for image_id in image_ids], np.int64)
    if (index < 0).all():
        raise ValueError(
            f"{truth.source} has none of the images: its ids are {list(truth.image_ids[:3])}, ..., "
            f"those of the images {list(image_ids[:3])}, ...; choose the ids with "
            "--images.id-rule (coco for COCO's numbers), or pass the truth of these images"
        )
    return index


def _blocks(counts: Int64[np.ndarray, " R"]) -> Iterator[tuple[int, int]]:
    """Yield start and end of row blocks, whose counts add up to about ``_PAIRS_AT_A_TIME``."""
    block = np.cumsum(counts) // _PAIRS_AT_A_TIME
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(counts)]
    return pairwise(edges)


def _ranks(selection: Selection) -> Int64[np.ndarray, " R"]:
    """Rank the regions of each image by decreasing probability; ties keep their order."""
    order = np.lexsort((-selection.obj_probs, selection.images))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - selection.offsets[selection.images[order]]
    return ranks


def _match(
    region: Int64[np.ndarray, " E"],
    box: Int64[np.ndarray, " E"],
    iou: Float64[np.ndarray, " E"],
    rank: Int64[np.ndarray, " R"],
    boxes: int,
) -> Int64[np.ndarray, "T G"]:
    """Return, per IoU threshold, the rank of the region that matches each ground-truth box.

    In COCO's evaluation, regions choose in the order of their ranks: each takes the free box with
    the highest IoU, and the last such box in a tie. Here all regions choose at the same time. If
    several choose the same box, the region with the best rank keeps it and the others choose their
    next box, until no region loses a box. The result is the same, because all boxes prefer regions
    in the same order (Gale and Shapley, 1962).

    Returns:
        The ranks; ``_NOBODY`` for a box without a match.
    """
    # Sort each region's boxes by its preference: highest IoU first, last box first in a tie.
    order = np.lexsort((-box, -iou, region))
    region, box, iou = region[order], box[order], iou[order]
    # 1 - 1e-10 as in COCOeval. Regions and boxes get separate numbers at each threshold, so that
    # all thresholds are matched at once.
    level, pair = np.nonzero(iou >= np.minimum(IOUS, 1 - 1e-10)[:, None])
    chooser = level * len(rank) + region[pair]
    chosen = level * boxes + box[pair]
    ranks = rank[region[pair]]
    while True:
        finder = np.full(len(IOUS) * boxes, _NOBODY)
        heads = np.flatnonzero(np.diff(chooser, prepend=-1))  # each region's best remaining box
        # Unlike an assignment, minimum.at respects boxes that several regions choose.
        np.minimum.at(finder, chosen[heads], ranks[heads])
        # Drop the pairs whose box is held by a region with a better rank.
        left = ranks <= finder[chosen]
        if left.all():
            return finder.reshape(len(IOUS), boxes)
        chooser, chosen, ranks = chooser[left], chosen[left], ranks[left]
