"""Detect and pool regions with MMF's rules.

Shapes: N: images; P: proposals of one image; R: selected regions; D: feature length; K: classes
without the background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

from vlray.config.detector import DetectorSection
from vlray.detect.selection.per_class import confidence_of
from vlray.detect.vmb.anchors import clip, decode, grid_anchors
from vlray.detect.vmb.network import VmbNetwork
from vlray.images.resize import ResizeLikeCaffe
from vlray.regions.batch import RegionBatch

PIXEL_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
_DIVISOR = 32  # images are padded to multiples of it


class VmbRegions:
    """Inference with a network, as MMF's extraction runs it for a batch of one image.

    Source:
        facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py; the proposals are
        those of vedanuj/vqa-maskrcnn-benchmark.
    """

    def __init__(
        self, network: VmbNetwork, resize: ResizeLikeCaffe, options: DetectorSection
    ) -> None:
        """Store the network, the resize function of its images, and the selection's options."""
        self._network, self._resize, self._options = network, resize, options
        self._device = next(network.parameters()).device

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in N images of one size.

        Raises:
            ValueError: The images differ in size.
        """
        levels, padded_hw = self._pyramid(images)
        outputs = [self._network.rpn["head"](level) for level in levels]
        anchors = [
            grid_anchors(table, level.shape[2], level.shape[3], stride)
            for table, level, stride in zip(
                self._network.anchor_tables(),
                levels,
                self._network.layout.anchor_strides,
                strict=True,
            )
        ]
        batches = []
        for index, hw in enumerate(image_hw):
            proposals = self._propose(
                [(logits[index], deltas[index]) for logits, deltas in outputs], anchors, padded_hw
            )
            maps = [level[index : index + 1] for level in levels]
            visual_feats, probs = self._box_head(maps, proposals)
            boxes = proposals / self._resize.scale(*hw.tolist())
            rows = select(boxes, probs, self._options).to(boxes.device)
            batches.append(_batch(hw, _inside(boxes[rows], hw), visual_feats[rows], probs[rows]))
        return RegionBatch.concat(batches)

    @torch.inference_mode()
    def pool_boxes(
        self,
        images: Sequence[np.ndarray],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes in N images of one size, without clipping or moving any.

        Raises:
            ValueError: The images differ in size.
        """
        levels, _ = self._pyramid(images)
        batches = []
        for index, (hw, image_boxes) in enumerate(zip(image_hw, boxes, strict=True)):
            rois = torch.tensor(image_boxes, device=self._device) * self._resize.scale(*hw.tolist())
            maps = [level[index : index + 1] for level in levels]
            batches.append(_batch(hw, image_boxes, *self._box_head(maps, rois)))
        return RegionBatch.concat(batches)

    def _pyramid(self, images: Sequence[np.ndarray]) -> tuple[list[Tensor], tuple[int, int]]:
        """Run the backbone; return the pyramid, and the height and width of the padded images."""
        shapes = sorted({image.shape for image in images})
        if len(shapes) != 1:
            names = ", ".join(map(str, shapes))
            raise ValueError(
                f"all images in one call must have the same size, but got {names}; "
                "group them by size"
            )
        # A copy, because Ray's arrays are read-only and torch warns about those.
        pixels = torch.from_numpy(np.stack(images).astype(np.float32)).to(self._device)
        pixels = (pixels - pixels.new_tensor(PIXEL_MEAN)).permute(0, 3, 1, 2)
        height, width = (math.ceil(side / _DIVISOR) * _DIVISOR for side in pixels.shape[2:])
        padding = (0, width - pixels.shape[3], 0, height - pixels.shape[2])
        return self._network.pyramid(functional.pad(pixels, padding)), (height, width)

    def _propose(
        self,
        outputs: Sequence[tuple[Tensor, Tensor]],
        anchors: Sequence[Tensor],
        padded_hw: tuple[int, int],
    ) -> Float[Tensor, "P 4"]:
        """Select one image's proposals, in descending order of objectness.

        Proposals are clipped to the padded image, as the peer does, so they may leave the image.
        """
        layout = self._network.layout
        kept = []
        for (logits, deltas), table in zip(outputs, anchors, strict=True):
            scores, rows = logits.sigmoid().topk(min(layout.pre_nms_topk, len(logits)))
            boxes = clip(decode(deltas[rows], table[rows]), *padded_hw)
            large = (boxes[:, 2:] - boxes[:, :2] + 1 >= layout.min_side).all(dim=1)
            boxes, scores = boxes[large], scores[large]
            # In float64, adding one to the last pixel rounds nothing.
            keep = nms(_widened(boxes), scores.double(), layout.rpn_nms_thresh)
            keep = keep[: layout.level_topk]
            kept.append((boxes[keep], scores[keep]))
        boxes, scores = (torch.cat(parts) for parts in zip(*kept, strict=True))
        return boxes[scores.topk(min(layout.post_nms_topk, len(scores))).indices]

    def _box_head(
        self, maps: Sequence[Tensor], boxes: Float[Tensor, "P 4"]
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "P K"]]:
        """Return the regions' vectors, and their class probabilities without the background."""
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        fc6, fc7, probs = self._network.roi_heads["box"](maps, rois)
        return (fc7 if self._options.features == "fc7" else fc6), probs[:, 1:]


def select(
    boxes: Float[Tensor, "P 4"], probs: Float[Tensor, "P K"], options: DetectorSection
) -> Int64[Tensor, " R"]:
    """Select one image's regions, in descending order of confidence.

    A proposal's confidence is its highest probability among the classes in which it survives NMS.
    Proposals that survive in none are never selected.

    Args:
        boxes: Proposals in pixels of the original image; x2 and y2 are the last pixels inside.
        probs: Class probabilities.
        options: ``nms_thresh``, ``score_thresh``, ``min_boxes`` and ``max_boxes``.
    """
    scores = probs.float().cpu().numpy()
    confidence = confidence_of(_widened(boxes).cpu().numpy(), scores, options.nms_thresh)
    number = int((confidence >= np.float32(options.score_thresh)).sum())
    number = min(max(number, options.min_boxes), options.max_boxes, int((confidence > 0).sum()))
    return torch.from_numpy(np.argsort(-confidence, kind="stable")[:number])


def _widened(boxes: Float[Tensor, "P 4"]) -> Tensor:
    """Return boxes that end after their last pixel, in float64."""
    return boxes.double() + boxes.new_tensor([0, 0, 1, 1], dtype=torch.float64)


def _inside(boxes: Float[Tensor, "R 4"], hw: Int32[np.ndarray, " 2"]) -> np.ndarray:
    height, width = hw.tolist()
    inside: np.ndarray = np.clip(boxes.cpu().numpy(), 0, [width, height, width, height])
    return inside.astype(np.float32)


def _batch(
    hw: Int32[np.ndarray, " 2"], boxes: np.ndarray, visual_feats: Tensor, probs: Tensor
) -> RegionBatch:
    obj_probs, obj_ids = probs.max(dim=1)
    return RegionBatch(
        image_hw=hw[None],
        num_boxes=np.array([len(boxes)], np.int32),
        boxes=boxes,
        visual_feats=visual_feats.float().cpu().numpy(),
        obj_ids=obj_ids.int().cpu().numpy(),
        obj_probs=obj_probs.float().cpu().numpy(),
    )
