"""Suppression within each of many classes: the best class in which a proposal survives.

Shapes: P proposals of one image, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional

from vlray.detect.selection.suppression import Suppression

_BITS = 62  # flags in a word
_ROUNDS = 20  # classes of a proposal that are tried one by one


def confidence_of(
    boxes: Float64[np.ndarray, "P 4"], probs: Float32[np.ndarray, "P K"], nms_thresh: float
) -> Float32[np.ndarray, " P"]:
    """Give each proposal's highest probability of those classes in which it survives.

    Within a class, of two boxes whose IoU is above ``nms_thresh`` the one of the lower probability
    goes; of equal ones the later. Most proposals survive in one of their first classes, and these
    are tried one by one, by walks that end early; for the rest, ``survivors_of`` goes through all.

    Args:
        boxes: ``(x1, y1, x2, y2)``, the same in all classes.
        probs: Of the classes.
        nms_thresh: Of the IoU.

    Returns:
        0 for a proposal that survives nowhere.
    """
    overlaps = _overlaps(boxes, nms_thresh)
    masks = [int.from_bytes(row, "little") for row in np.packbits(overlaps, 1, "little")]
    by_class = np.ascontiguousarray(probs.T)
    untried = probs.copy()
    confidence = np.zeros(len(probs), np.float32)
    before = np.tri(len(probs), k=-1, dtype=bool)  # whose index is lower
    open_rows = np.arange(len(probs))
    for _ in range(min(_ROUNDS, probs.shape[1])):
        if not len(open_rows):
            break
        classes = untried[open_rows].argmax(axis=1)
        best = probs[open_rows, classes]
        untried[open_rows, classes] = -1
        rivals = by_class[classes]
        ahead = (rivals > best[:, None]) | ((rivals == best[:, None]) & before[open_rows])
        survives = ~(ahead & overlaps[open_rows]).any(axis=1)  # nothing to be suppressed by
        for at in np.flatnonzero(~survives).tolist():
            survives[at] = _survives(int(open_rows[at]), ahead[at], rivals[at], masks)
        confidence[open_rows[survives]] = best[survives]
        open_rows = open_rows[~survives]
    if len(open_rows):
        of_classes = torch.from_numpy(probs)
        kept = survivors_of(torch.from_numpy(overlaps), of_classes)
        confidence[open_rows] = (of_classes * kept).amax(dim=1).numpy()[open_rows]
    return confidence


def survivors_of(overlaps: Bool[Tensor, "P P"], probs: Float[Tensor, "P K"]) -> Bool[Tensor, "P K"]:
    """Suppress within every class at once: the boxes, and so their overlaps, are the same in all.

    One pass over the ranks instead of one NMS for each of 1,600 classes. What a proposal overlaps,
    and what is suppressed in a class, are bits of a few words.
    """
    order = probs.T.sort(dim=1, descending=True, stable=True).indices.T.contiguous()  # (P, K)
    words, bits = order // _BITS, order % _BITS
    masks = _packed(overlaps)
    suppressed = masks.new_zeros(probs.shape[1], masks.shape[1])  # (K, words)
    survives = torch.empty_like(order, dtype=torch.bool)
    for rank, best in enumerate(order):
        word = suppressed.gather(1, words[rank][:, None]).squeeze(1)
        survives[rank] = (word >> bits[rank]) & 1 == 0
        # A proposal that was decided before may be marked again; nobody looks at it any more.
        suppressed |= masks.index_select(0, best) * survives[rank][:, None]
    return torch.empty_like(survives).scatter_(0, order, survives)


def _packed(flags: Bool[Tensor, "P P"]) -> Int64[Tensor, "P words"]:
    """Make words of ``_BITS`` flags each."""
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
    """Walk through a class from its best proposal to one of them; flags are bits of a number."""
    rows: Int64[np.ndarray, " Q"] = ahead.nonzero()[0]
    suppressed = 0
    for other in rows[np.argsort(-probs[rows], kind="stable")].tolist():
        if not suppressed >> other & 1:
            suppressed |= masks[other]
            if suppressed >> row & 1:
                return False
    return True


def _overlaps(boxes: Float64[np.ndarray, "P 4"], nms_thresh: float) -> Bool[np.ndarray, "P P"]:
    """Tell which boxes suppress each other."""
    found = np.zeros((len(boxes), len(boxes)), bool)
    for first, second in Suppression(boxes, np.zeros(len(boxes), np.int64)).pairs(nms_thresh):
        found[first, second] = found[second, first] = True
    return found
