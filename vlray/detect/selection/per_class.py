"""NMS within each of many classes, to find the best class in which each proposal survives.

Shapes: P: proposals of one image; K: classes; Q: proposals ahead of one proposal in a class.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional

from vlray.detect.selection.suppression import Suppression

_BITS = 62  # flags per int64 word; the sum of all their values must not overflow
_ROUNDS = 20  # number of a proposal's best classes that are tried one by one


def confidence_of(
    boxes: Float64[np.ndarray, "P 4"], probs: Float32[np.ndarray, "P K"], nms_thresh: float
) -> Float32[np.ndarray, " P"]:
    """Compute each proposal's highest probability among the classes in which it survives NMS.

    Within a class, a box suppresses boxes of lower probability whose IoU with it is above
    ``nms_thresh``; if probabilities are equal, the earlier box wins. Most proposals survive in one
    of their best classes, so these are tried one by one, with scans that end early. For the
    remaining proposals, ``survivors_of`` runs NMS in all classes.

    Args:
        boxes: ``(x1, y1, x2, y2)``, the same in all classes.
        probs: Class probabilities.
        nms_thresh: IoU threshold.

    Returns:
        The probabilities; 0 for a proposal that survives in no class.
    """
    overlaps = _overlaps(boxes, nms_thresh)
    masks = [int.from_bytes(row, "little") for row in np.packbits(overlaps, 1, "little")]
    by_class = np.ascontiguousarray(probs.T)
    untried = probs.copy()
    confidence = np.zeros(len(probs), np.float32)
    before = np.tri(len(probs), k=-1, dtype=bool)  # True where column index < row index
    open_rows = np.arange(len(probs))  # proposals that have not survived in any class yet
    for _ in range(min(_ROUNDS, probs.shape[1])):
        if not len(open_rows):
            break
        classes = untried[open_rows].argmax(axis=1)
        best = probs[open_rows, classes]
        untried[open_rows, classes] = -1
        rivals = by_class[classes]
        ahead = (rivals > best[:, None]) | ((rivals == best[:, None]) & before[open_rows])
        survives = ~(ahead & overlaps[open_rows]).any(axis=1)  # no better box overlaps
        # An overlapping better box suppresses only if it survives itself, which needs a scan.
        for at in np.flatnonzero(~survives).tolist():
            survives[at] = _survives(int(open_rows[at]), ahead[at], rivals[at], masks)
        confidence[open_rows[survives]] = best[survives]
        open_rows = open_rows[~survives]
    if len(open_rows):
        of_classes = torch.from_numpy(probs)
        survives_in = survivors_of(torch.from_numpy(overlaps), of_classes)
        confidence[open_rows] = (of_classes * survives_in).amax(dim=1).numpy()[open_rows]
    return confidence


def survivors_of(overlaps: Bool[Tensor, "P P"], probs: Float[Tensor, "P K"]) -> Bool[Tensor, "P K"]:
    """Run NMS in all classes at once; all classes share the same boxes and overlaps.

    A single pass over the ranks replaces 1,600 separate runs of NMS. Each proposal's overlaps and
    each class's suppressed proposals are stored as bits in a few int64 words.

    Args:
        overlaps: Whether the IoU of two boxes is above the threshold.
        probs: Class probabilities.

    Returns:
        Whether each proposal survives in each class.
    """
    order = probs.T.sort(dim=1, descending=True, stable=True).indices.T.contiguous()  # (P, K)
    words, bits = order // _BITS, order % _BITS
    masks = _packed(overlaps)
    suppressed = masks.new_zeros(probs.shape[1], masks.shape[1])  # (K, words)
    survives = torch.empty_like(order, dtype=torch.bool)
    for rank, best in enumerate(order):
        word = suppressed.gather(1, words[rank][:, None]).squeeze(1)
        survives[rank] = (word >> bits[rank]) & 1 == 0
        # This may also mark proposals with a better rank, whose result is already stored.
        suppressed |= masks.index_select(0, best) * survives[rank][:, None]
    return torch.empty_like(survives).scatter_(0, order, survives)


def _packed(flags: Bool[Tensor, "P P"]) -> Int64[Tensor, "P words"]:
    """Pack each row's flags into int64 words that hold ``_BITS`` flags each."""
    rows, columns = flags.shape
    padded = functional.pad(flags.long(), (0, -columns % _BITS))
    weights = torch.ones(_BITS, dtype=torch.long, device=flags.device) << torch.arange(
        _BITS, device=flags.device
    )
    return (padded.view(rows, -1, _BITS) * weights).sum(dim=2)


def _survives(
    row: int,
    ahead: Bool[np.ndarray, " P"],
    probs: Float32[np.ndarray, " P"],
    masks: list[int],
) -> bool:
    """Return whether a proposal survives NMS in one class; stop as soon as this is known.

    Args:
        row: Index of the proposal.
        ahead: Which proposals have a better rank in this class.
        probs: Probability of this class for all proposals.
        masks: Overlaps of each proposal, as the bits of an integer.
    """
    rows: Int64[np.ndarray, " Q"] = ahead.nonzero()[0]
    suppressed = 0
    for other in rows[np.argsort(-probs[rows], kind="stable")].tolist():
        if not suppressed >> other & 1:
            suppressed |= masks[other]
            if suppressed >> row & 1:
                return False
    return True


def _overlaps(boxes: Float64[np.ndarray, "P 4"], nms_thresh: float) -> Bool[np.ndarray, "P P"]:
    """Return for each pair of boxes whether their IoU is above the threshold."""
    overlaps = np.zeros((len(boxes), len(boxes)), bool)
    for first, second in Suppression(boxes, np.zeros(len(boxes), np.int64)).pairs(nms_thresh):
        overlaps[first, second] = overlaps[second, first] = True
    return overlaps
