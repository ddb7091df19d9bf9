"""Which of an image's proposals become its regions.

Shapes: P proposals, K classes (background left out), R regions kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlray.config.detector import DetectorSection
from vlray.detect.selection.rules import select_one


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
    rows = select_one(
        candidates.cpu().numpy(), obj_ids.cpu().numpy(), scores.cpu().numpy(), options
    )
    indices = torch.from_numpy(rows).to(probs.device)
    return indices, obj_ids[indices], scores[indices]
