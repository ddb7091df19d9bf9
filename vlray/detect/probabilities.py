"""Probabilities of several classes and attributes of each region, if they are asked for.

Shapes: R: regions; K: classes or attributes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlray.config.detector import TOP_CLASSES, DetectorSection


def class_columns(probs: Float[Tensor, "R K"], options: DetectorSection) -> dict[str, Any]:
    """Return the columns of a ``RegionBatch`` that ``class_probs`` asks for.

    Args:
        probs: Probabilities of all classes, without the background.
        options: ``class_probs``.
    """
    if options.class_probs == "all":
        return {"cls_probs": probs.to(torch.float16).cpu().numpy()}
    if options.class_probs == "top5":
        return _best("obj", probs, TOP_CLASSES)
    return {}


def attribute_columns(probs: Float[Tensor, "R K"], options: DetectorSection) -> dict[str, Any]:
    """Return the columns of a ``RegionBatch`` that ``max_attributes`` asks for.

    Args:
        probs: Probabilities of all attributes; 0 for those that count as absent.
        options: ``max_attributes``.
    """
    if options.max_attributes == 1:
        return {}
    return _best("attr", probs, options.max_attributes)


def _best(kind: str, probs: Float[Tensor, "R K"], count: int) -> dict[str, Any]:
    values, ids = probs.topk(min(count, probs.shape[1]), dim=1)
    return {
        f"top_{kind}_ids": ids.int().cpu().numpy(),
        f"top_{kind}_probs": values.to(torch.float16).cpu().numpy(),
    }
