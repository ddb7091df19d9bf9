"""Which of an image's proposals become its regions.

Shapes: P proposals, K classes (background left out), R regions kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import batched_nms

from vlray.config.detector import DetectorSection

NMS_THRESH = 0.5  # where the options leave it to the detector


def boxes_of_class(
    boxes: Float[Tensor, "P K 4"] | Float[Tensor, "P 4"], obj_ids: Int64[Tensor, " P"]
) -> Float[Tensor, "P 4"]:
    """Give each proposal's box for one class; the same box where regression ignores classes."""
    if boxes.dim() == 2:
        return boxes
    return boxes[torch.arange(len(boxes), device=boxes.device), obj_ids]


def select_regions(
    boxes: Float[Tensor, "P K 4"] | Float[Tensor, "P 4"],
    probs: Float[Tensor, "P K"],
    options: DetectorSection,
) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " R"], Float[Tensor, " R"]]:
    """Choose the regions of one image: each proposal with its best class, after suppression.

    Within a class, of two boxes whose IoU is above ``nms_thresh`` the lower score goes. The
    survivors that score ``score_thresh`` or more are kept: at least ``min_boxes`` of them, if need
    be by taking lower scores, and at most ``max_boxes``. Equal scores keep the proposals' order.

    Args:
        boxes: ``(x1, y1, x2, y2)``, clipped to the image, for each class or for all classes.
        probs: Probability of each class.
        options: The thresholds.

    Returns:
        Index of each region's proposal, its class, and that class's probability, in descending
        order of probability. Boxes that are not finite or have no area, and probabilities that
        are not finite, are never among them.

    Source:
        Bottom-up attention (arXiv:1707.07998) keeps 10 to 100 boxes by this rule. Detectron2 keeps
        every class of a proposal above the threshold instead of the best one.
    """
    if not len(probs):
        empty = torch.zeros(0, dtype=torch.int64, device=probs.device)
        return empty, empty, probs.new_zeros(0)
    scores, obj_ids = probs.max(dim=1)
    candidates = boxes_of_class(boxes, obj_ids)
    usable = candidates.isfinite().all(1) & scores.isfinite()
    usable &= (candidates[:, 2:] > candidates[:, :2]).all(1)
    usable_indices = usable.nonzero().squeeze(1)
    order = scores[usable_indices].argsort(descending=True, stable=True)
    indices = usable_indices[order]
    indices = indices[
        _survivors(candidates[indices], obj_ids[indices], options.nms_thresh or NMS_THRESH)
    ]

    above = int((scores[indices] >= options.score_thresh).sum())
    indices = indices[: min(max(above, options.min_boxes), options.max_boxes)]
    return indices, obj_ids[indices], scores[indices]


def _survivors(
    boxes: Float[Tensor, "Q 4"], obj_ids: Int64[Tensor, " Q"], nms_thresh: float
) -> Int64[Tensor, " S"]:
    """Give the rows, ascending, that suppression leaves of boxes sorted by descending score."""
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    # torchvision tells classes apart by moving each class's boxes aside, by more than the largest
    # coordinate. With many classes that costs float32 whole tenths of a pixel, and negative
    # coordinates would meet: hence float64, and boxes that begin at zero.
    boxes = boxes.double()
    # The rank stands for the score: among equal scores the first proposal stays, on any device.
    ranks = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
    kept: Tensor = batched_nms(boxes - boxes.min(), ranks, obj_ids, nms_thresh)
    return kept.sort().values
