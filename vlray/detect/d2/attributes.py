"""The attribute head of grid-feats-vqa's networks.

Shapes: R: regions; D: length of a region's vector; K: object classes, with the background last;
A: attributes.
"""

from __future__ import annotations

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from jaxtyping import Float, Int64
from torch import Tensor, nn


class AttributePredictor(nn.Module):
    """Predict attributes from a region's vector and its object class.

    Source:
        facebookresearch/grid-feats-vqa, grid_feats/roi_heads.py (``AttributePredictor``).
    """

    def __init__(
        self, feature_dim: int, num_classes: int, embed_dim: int, fc_dim: int, num_attributes: int
    ) -> None:
        """Build the layers; their names are those of the published files."""
        super().__init__()
        self.obj_embed = nn.Embedding(num_classes + 1, embed_dim)
        self.fc = nn.Sequential(nn.Linear(feature_dim + embed_dim, fc_dim), nn.ReLU())
        self.attr_score = nn.Linear(fc_dim, num_attributes)

    def forward(
        self, visual_feats: Float[Tensor, "R D"], obj_ids: Int64[Tensor, " R"]
    ) -> Float[Tensor, "R A"]:
        """Return the attributes' logits."""
        inputs = torch.cat([visual_feats, self.obj_embed(obj_ids)], dim=1)
        scores: Tensor = self.attr_score(self.fc(inputs))
        return scores


def attach_attributes(model: GeneralizedRCNN, cfg: CfgNode, feature_dim: int) -> None:
    """Add the attribute predictor to a network's RoI heads.

    grid-feats-vqa itself runs it in training only, on the true classes.
    """
    head = cfg.MODEL.ROI_ATTRIBUTE_HEAD
    model.roi_heads.attribute_predictor = AttributePredictor(
        feature_dim,
        cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        head.OBJ_EMBED_DIM,
        head.FC_DIM,
        head.NUM_CLASSES,
    ).to(model.device)


def best_attributes(
    model: GeneralizedRCNN, visual_feats: Float[Tensor, "R D"], obj_ids: Int64[Tensor, " R"]
) -> tuple[Int64[Tensor, " R"], Float[Tensor, " R"]] | None:
    """Return each region's best attribute and its probability; None without an attribute head."""
    predictor = getattr(model.roi_heads, "attribute_predictor", None)
    if predictor is None:
        return None
    probs, ids = predictor(visual_feats, obj_ids).softmax(dim=1).max(dim=1)
    return ids, probs
