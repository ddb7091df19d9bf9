"""Box heads: which layer's output is a region's feature vector.

Shapes: M: pooled regions; C: channels; S: side of a pooled region; D: feature length; E: input
length of the box predictor.
"""

from __future__ import annotations

from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNConvFCHead
from jaxtyping import Float
from torch import Tensor

FC_LAYERS = {"fc6": 1, "fc7": 2}
"""Fully connected layers by their names in the literature, with their number in Detectron2."""


def feature_dim_of(model: GeneralizedRCNN, features: str) -> int:
    """Return the length of a region's feature vector.

    Args:
        model: The network.
        features: ``fc6`` or ``fc7`` for that layer; any other value for the input of the box
            predictor.

    Raises:
        ValueError: The box head has no such layer.
    """
    heads = model.roi_heads
    is_cascade = isinstance(heads, CascadeROIHeads)
    if features not in FC_LAYERS:
        predictor = heads.box_predictor[-1] if is_cascade else heads.box_predictor
        return int(predictor.cls_score.in_features)
    head: Any = getattr(heads, "box_head", None)  # Res5ROIHeads has none
    head = head[-1] if is_cascade else head
    number = FC_LAYERS[features]
    if not isinstance(head, FastRCNNConvFCHead) or number > len(head.fcs):
        layers = len(head.fcs) if isinstance(head, FastRCNNConvFCHead) else 0
        raise ValueError(
            f"detector.features={features} needs a box head with at least {number} fully connected "
            f"layers, and this network's has {layers}; use features=pooled, the vector that enters "
            "the box predictor"
        )
    return int(head.fcs[number - 1].out_features)


def run_box_layers(
    head: Any, pooled: Float[Tensor, "M C S S"], features: str
) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M E"]]:
    """Run a box head on pooled regions.

    Args:
        head: A box head whose layers ``feature_dim_of`` accepted.
        pooled: The pooled regions.
        features: As in ``feature_dim_of``.

    Returns:
        The feature vectors, after the activation of their layer, and the input vectors of the box
        predictor.
    """
    if features not in FC_LAYERS:
        # If a head ends in a convolution, its output is flattened here, as the predictor would do.
        vectors = head(pooled).flatten(1)
        return vectors, vectors
    values = visual_feats = pooled
    for name, layer in head.named_children():
        values = layer(values)
        if name == f"fc_relu{FC_LAYERS[features]}":
            visual_feats = values
    return visual_feats, values
