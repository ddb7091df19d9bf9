"""Detect, pool and select regions with VinVL's detector.

Shapes: N: images; M: anchors of the map; P: proposals of one image; K: classes, without the
background; A: attributes; R: selected regions of one image; D: feature length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor
from torchvision.ops import box_iou, nms

from vlray.cluster.tf32 import tf32
from vlray.config.detector import DetectorSection
from vlray.detect.conventions import VinvlConventions
from vlray.detect.grid import grid_regions
from vlray.detect.probabilities import attribute_columns, class_columns
from vlray.detect.selection.per_class import survivors_of
from vlray.detect.selection.rules import select_one
from vlray.detect.vinvl.layout import ANCHOR_SCALES, PIXEL_MEAN
from vlray.detect.vinvl.model import STRIDE, VinvlNetwork
from vlray.detect.visual_genome.proposals import clip, decode
from vlray.detect.visual_genome.shapes import caffe_anchors
from vlray.regions.batch import RegionBatch

_LAST_PIXEL = (0.0, 0.0, 1.0, 1.0)  # from the last pixel inside a box to its edge
_LOWEST = 0.01  # filter 2 drops scores below this part of score_thresh


class VinvlRegionFinder:
    """Inference with VinVL's network under its conventions."""

    def __init__(
        self, network: VinvlNetwork, rules: VinvlConventions, options: DetectorSection
    ) -> None:
        """Store the network, the rules, and the thresholds and limits of the selection."""
        self._network = network
        self._rules = rules
        self._options = options

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in N images of one size.

        Raises:
            ValueError: The images differ in size. Padding the smaller ones would change their
                features.
        """
        batches = []
        with tf32(False):  # TF32 would change the order of proposals with nearly equal scores
            maps, resized_hw = self._maps(images)
            logits, deltas = self._network.objectness(maps)
            anchors = _anchors(*maps.shape[2:]).to(maps)
            for index, original_hw in enumerate(image_hw):
                rois = propose(logits[index], deltas[index], anchors, resized_hw, self._rules)
                one = maps[index : index + 1]
                batches.append(self._regions(one, rois, resized_hw, original_hw))
        return RegionBatch.concat(batches)

    @torch.inference_mode()
    def pool_boxes(
        self,
        images: Sequence[np.ndarray],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes in N images of one size, without clipping or moving any.

        Args:
            images: As in ``__call__``.
            image_hw: As in ``__call__``.
            boxes: One array of boxes per image, in pixels of the original image.

        Raises:
            ValueError: The images differ in size.
        """
        batches = []
        with tf32(False):
            maps, resized_hw = self._maps(images)
            for index, image_boxes in enumerate(boxes):
                scales = _scales(resized_hw, image_hw[index]).to(maps)
                rois = torch.tensor(image_boxes, device=maps.device) * scales
                visual_feats = self._network.pool(maps[index : index + 1], rois)
                probs = self._probs(visual_feats)
                scores, obj_ids = probs.max(dim=1)
                batches.append(
                    self._batch(image_hw[index], image_boxes, visual_feats, obj_ids, scores, probs)
                )
        return RegionBatch.concat(batches)

    @torch.inference_mode()
    def grid(self, images: Sequence[np.ndarray], image_hw: Int32[np.ndarray, "N 2"]) -> RegionBatch:
        """Compute grid features of N images of one size: the cells of ``options.grid_layer``.

        ``res5`` runs over the whole image as it does in the heads, at stride 2.

        Raises:
            ValueError: The images differ in size.
        """
        with tf32(False):
            maps, _ = self._maps(images)
            if self._options.grid_layer == "res5":
                maps = self._network.res5(maps).float()
            return grid_regions(maps, image_hw, self._options.grid_size)

    def _maps(
        self, images: Sequence[np.ndarray]
    ) -> tuple[Float[Tensor, "N C H W"], tuple[int, int]]:
        """Run the backbone; return the C4 maps, and the height and width of the resized images."""
        shapes = sorted({image.shape for image in images})
        if len(shapes) != 1:
            names = ", ".join(map(str, shapes))
            raise ValueError(
                f"all images in one call must have the same size, but got {names}; "
                "group them by size"
            )
        # A copy, because Ray's arrays are read-only and torch warns about those.
        pixels = torch.from_numpy(np.stack(images).astype(np.float32)).to(self._network.device)
        pixels -= pixels.new_tensor(PIXEL_MEAN)
        return self._network.c4(pixels.permute(0, 3, 1, 2)), shapes[0][:2]

    def _probs(self, visual_feats: Float[Tensor, "P D"]) -> Float[Tensor, "P K"]:
        """Return the probabilities of all classes but the background, which is the first one."""
        logits: Tensor = self._network.predictor.cls_score(visual_feats)
        return logits.softmax(dim=1)[:, 1:]

    def _regions(
        self,
        c4: Float[Tensor, "1 C H W"],
        rois: Float[Tensor, "P 4"],
        resized_hw: tuple[int, int],
        original_hw: Int32[np.ndarray, " 2"],
    ) -> RegionBatch:
        """Pool, classify and select the proposals of one image."""
        visual_feats = self._network.pool(c4, rois)
        probs = self._probs(visual_feats)
        # NMS gets the boxes exactly as an output stores them, so that ``vlray tune`` can select
        # the same regions again from the output.
        height, width = original_hw.tolist()
        boxes = clip(rois / _scales(resized_hw, original_hw).to(rois), height, width, False)
        select = _each_class if self._rules.nms == "each class" else _any_class
        rows, obj_ids, scores = select(boxes, probs, self._rules, self._options)
        return self._batch(
            original_hw, boxes[rows].cpu().numpy(), visual_feats[rows], obj_ids, scores, probs[rows]
        )

    def _batch(
        self,
        original_hw: Int32[np.ndarray, " 2"],
        boxes: Float32[np.ndarray, "R 4"],
        visual_feats: Float[Tensor, "R D"],
        obj_ids: Int64[Tensor, " R"],
        scores: Float[Tensor, " R"],
        class_probs: Float[Tensor, "R K"],
    ) -> RegionBatch:
        """Predict the attributes of one image's regions, and build their ``RegionBatch``."""
        attr_ids = attr_probs = None
        columns = class_columns(class_probs, self._options)
        if self._network.layout.attributes:
            logits = self._network.predictor.attributes(visual_feats, obj_ids)
            probs = logits.softmax(dim=1)[:, 1:]  # the first one is "no attribute"
            probs = probs.where(probs > self._rules.attribute_thresh, 0)
            attr_probs, attr_ids = (values.cpu().numpy() for values in probs.max(dim=1))
            columns |= attribute_columns(probs, self._options)
        return RegionBatch(
            image_hw=original_hw[None],
            num_boxes=np.array([len(boxes)], np.int32),
            boxes=boxes,
            visual_feats=visual_feats.cpu().numpy(),
            obj_ids=obj_ids.int().cpu().numpy(),
            obj_probs=scores.cpu().numpy(),
            attr_ids=None if attr_ids is None else attr_ids.astype(np.int32),
            attr_probs=attr_probs,
            **columns,
        )


def propose(
    logits: Float[Tensor, " M"],
    deltas: Float[Tensor, "M 4"],
    anchors: Float[Tensor, "M 4"],
    resized_hw: tuple[int, int],
    rules: VinvlConventions,
) -> Float[Tensor, "P 4"]:
    """Select the proposals of one image, in descending order of objectness.

    Args:
        logits: Objectness logit of each anchor.
        deltas: Box deltas of each anchor.
        anchors: Anchors whose width is ``x2 - x1``.
        resized_hw: Height and width of the resized image.
        rules: The conventions.

    Returns:
        Boxes in pixels of the resized image; x2 and y2 are the last pixels inside.

    Source:
        maskrcnn-benchmark, modeling/rpn/inference.py and box_coder.py. NMS is torchvision's, which
        does not add a pixel to the boxes' sides.
    """
    order = logits.argsort(descending=True, stable=True)[: rules.pre_nms_topk]
    boxes = decode(deltas[order], anchors[order], rules.clamp_deltas)
    boxes = clip(boxes - boxes.new_tensor(_LAST_PIXEL), *resized_hw, rules.plus_one)
    # Ranks replace the logits as scores, so that equal logits keep their order on any device.
    ranks = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
    return boxes[nms(boxes, ranks, rules.rpn_nms_thresh)[: rules.post_nms_topk]]


def _each_class(
    boxes: Float[Tensor, "P 4"],
    probs: Float[Tensor, "P K"],
    rules: VinvlConventions,
    options: DetectorSection,
) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " R"], Float[Tensor, " R"]]:
    """Select proposals by VinVL's filter 1: NMS within each class.

    A region has the best of the classes in which it survives. Regions with a score of at least
    ``score_thresh`` are selected, between ``min_boxes`` and ``max_boxes`` of them.

    Returns:
        Index, class and score of each region, in descending order of score.

    Source:
        ``filter_results_peter`` in box_head/inference.py.
    """
    (nms_thresh,) = rules.nms_thresh
    double = boxes.double()
    survivors = survivors_of(box_iou(double, double) > nms_thresh, probs)
    scores, obj_ids = (probs * survivors).max(dim=1)
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > 0]
    confident = int((scores >= options.score_thresh).sum())
    rows = order[: min(max(confident, options.min_boxes), options.max_boxes)]
    return rows, obj_ids[rows], scores[rows]


def _any_class(
    boxes: Float[Tensor, "P 4"],
    probs: Float[Tensor, "P K"],
    rules: VinvlConventions,
    options: DetectorSection,
) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " R"], Float[Tensor, " R"]]:
    """Select proposals by VinVL's filter 2: one NMS over all classes.

    Returns:
        Index, class and score of each region, in descending order of score.

    Source:
        ``filter_results_fast`` in box_head/inference.py.
    """
    scores, obj_ids = probs.max(dim=1)
    likely = (scores > options.score_thresh * _LOWEST).nonzero().squeeze(1)
    rows = select_one(
        boxes[likely].cpu().numpy(),
        obj_ids[likely].cpu().numpy(),
        scores[likely].cpu().numpy(),
        options.model_copy(update={"nms_thresh": 0}),
        nms_thresh=rules.nms_thresh,
        within_class=False,
        filled=False,
    )
    selected = likely[torch.from_numpy(rows).to(likely.device)]
    return selected, obj_ids[selected], scores[selected]


def _anchors(height: int, width: int) -> Float[Tensor, "M 4"]:
    """Return the anchors of a map, row by row, with the 15 anchors of a cell together."""
    table = torch.tensor(caffe_anchors(ANCHOR_SCALES)) + torch.tensor(_LAST_PIXEL)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4) * STRIDE
    return (shifts + table).reshape(-1, 4)


def _scales(
    resized_hw: tuple[int, int], original_hw: Int32[np.ndarray, " 2"]
) -> Float[Tensor, " 4"]:
    """Return the factors from original to resized pixels of x1, y1, x2 and y2."""
    vertical, horizontal = (np.array(resized_hw) / original_hw).tolist()
    return torch.tensor([horizontal, vertical] * 2)
