"""Select an image's regions from its proposals.

Shapes: P: proposals; K: classes, without the background; R: selected regions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlray.config.detector import DetectorSection
from vlray.detect.selection.rules import select_one
from vlray.detect.transfer import to_device


def boxes_of_class(
    boxes: Float[Tensor, "P K 4"] | Float[Tensor, "P 4"], obj_ids: Int64[Tensor, " P"]
) -> Float[Tensor, "P 4"]:
    """Return each proposal's box for the class in ``obj_ids``, or its class-agnostic box."""
    if boxes.dim() == 2:
        return boxes
    return boxes[torch.arange(len(boxes), device=boxes.device), obj_ids]


def select_regions(
    boxes: Float[Tensor, "P K 4"] | Float[Tensor, "P 4"],
    probs: Float[Tensor, "P K"],
    options: DetectorSection,
) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " R"], Float[Tensor, " R"]]:
    """Select the regions of one image by NMS over its proposals, each with its best class.

    NMS runs within each class, with ``nms_thresh``. Survivors with a score of at least
    ``score_thresh`` are selected, at most ``max_boxes`` of them. If there are fewer than
    ``min_boxes``, survivors with lower scores are added. Ties keep the proposals' order.

    Args:
        boxes: ``(x1, y1, x2, y2)``, clipped to the image; one box per class, or one for all.
        probs: Probability of each class.
        options: ``score_thresh``, ``nms_thresh``, ``min_boxes`` and ``max_boxes``.

    Returns:
        The index of each region's proposal, its class, and the probability of that class, in
        descending order of probability. Proposals whose box has no area, or whose box or
        probability is not finite, are never selected.

    Source:
        Bottom-up attention (arXiv:1707.07998) keeps 10 to 100 boxes by this rule. Detectron2
        instead keeps a proposal once for each class above the threshold.
    """
    if not len(probs):
        empty = torch.zeros(0, dtype=torch.int64, device=probs.device)
        return empty, empty, probs.new_zeros(0)
    scores, obj_ids = probs.max(dim=1)
    candidates = boxes_of_class(boxes, obj_ids)
    # One copy for all columns: each would wait for the device. Ids are exact up to 2^24.
    columns = [candidates, obj_ids[:, None], scores[:, None]]
    table = torch.cat([column.to(scores.dtype) for column in columns], dim=1).cpu().numpy()
    rows = select_one(table[:, :4], table[:, 4].astype(np.int64), table[:, 5], options)
    indices = to_device(rows, probs.device)
    return indices, obj_ids[indices], scores[indices]
