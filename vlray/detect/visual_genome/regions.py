"""Detect, pool and select regions with the Visual Genome network, under a preset's conventions.

Shapes: N: images; P: proposals of one image; K: 1,600 classes; R: selected regions of one image;
H, W: height and width of the C4 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor
from torchvision.ops import box_iou

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import Conventions
from vlray.detect.grid import grid_regions
from vlray.detect.selection.per_class import survivors_of
from vlray.detect.selection.rules import most_confident, select_one
from vlray.detect.visual_genome.model import VgNetwork
from vlray.detect.visual_genome.proposals import anchors_of, clip, decode, propose, widened
from vlray.detect.visual_genome.shapes import ATTRIBUTES, BOX_WEIGHTS, OBJECTS, PIXEL_MEAN
from vlray.regions.batch import RegionBatch


class RegionFinder:
    """Inference with the Visual Genome network, under a preset's conventions."""

    def __init__(
        self,
        network: VgNetwork,
        rules: Conventions,
        options: DetectorSection,
        with_class_probs: bool = False,
    ) -> None:
        """Store the network and the rules.

        Args:
            network: The network with its weights loaded.
            rules: Conventions of the preset.
            options: Thresholds and limits for the selection, and options for the grid.
            with_class_probs: Whether to prepend the probabilities of all classes to each region's
                feature vector.
        """
        self._with_class_probs = with_class_probs
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
        network = self._network
        maps, (height, width) = self._maps(images)
        logits, deltas = network.objectness(maps)
        anchors = anchors_of(self._rules.anchors, *maps.shape[2:]).to(network.device)
        boxes = decode(deltas, anchors, self._rules.clamp_deltas)
        batches = []
        for index, (original_height, original_width) in enumerate(image_hw.tolist()):
            scales = self._scales((height, width), (original_height, original_width))
            # Only vg-caffe's rule min_side needs a scale, and its two scales are equal.
            rois = propose(logits[index], boxes[index], height, width, min(scales), self._rules)
            one = maps[index : index + 1]
            batches.append(self._regions(one, rois, (height, width), scales, image_hw[index]))
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
        network, batches = self._network, []
        maps, resized_hw = self._maps(images)
        for index, image_boxes in enumerate(boxes):
            height, width = image_hw[index].tolist()
            scales = self._scales(resized_hw, (height, width))
            rois = torch.tensor(image_boxes, device=network.device) * _per_axis(scales, maps)
            visual_feats = network.pool(maps[index : index + 1], rois)
            logits = network.predictor.cls_score(visual_feats)
            best = logits.softmax(dim=1)[:, :OBJECTS].max(dim=1)
            batches.append(self._batch(image_hw[index], image_boxes, visual_feats, logits, *best))
        return RegionBatch.concat(batches)

    @torch.inference_mode()
    def grid(self, images: Sequence[np.ndarray], image_hw: Int32[np.ndarray, "N 2"]) -> RegionBatch:
        """Compute grid features of N images of one size: the cells of ``options.grid_layer``.

        ``res5`` runs over the whole image as it does in the heads, at stride 1 and dilation 2. The
        paper runs it at stride 2 and dilation 1, which yields every second row and column of these
        cells.

        Raises:
            ValueError: The images differ in size.

        Source:
            In Defense of Grid Features (arXiv:2001.03615); facebookresearch/grid-feats-vqa,
            extract_grid_feature.py.
        """
        maps, _ = self._maps(images)
        if self._options.grid_layer == "res5":
            maps = self._network.res5(maps)
        return grid_regions(maps, image_hw, self._options.grid_size)

    def _maps(
        self, images: Sequence[np.ndarray]
    ) -> tuple[Float[Tensor, "N 1024 H W"], tuple[int, int]]:
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

    def _scales(
        self, resized_hw: tuple[int, int], original_hw: tuple[int, int]
    ) -> tuple[float, float]:
        """Return the scales from original to resized pixels, vertical and horizontal."""
        if self._rules.resize == "opencv":
            return (_caffe_scale(*original_hw, self._rules),) * 2
        return resized_hw[0] / original_hw[0], resized_hw[1] / original_hw[1]

    def _regions(
        self,
        c4: Float[Tensor, "1 1024 H W"],
        rois: Float[Tensor, "P 4"],
        resized_hw: tuple[int, int],
        scales: tuple[float, float],
        image_hw: Int32[np.ndarray, " 2"],
    ) -> RegionBatch:
        """Pool, classify and select the proposals of one image."""
        predictor, rules = self._network.predictor, self._rules
        visual_feats = self._network.pool(c4, rois)
        class_logits = predictor.cls_score(visual_feats)
        probs = class_logits.softmax(dim=1)[:, :OBJECTS]  # without the background
        obj_probs, obj_ids = probs.max(dim=1)
        per_axis = _per_axis(scales, rois)
        if rules.regressed_boxes:
            # Only the best class's deltas: the work for the other 1,599 classes would be wasted.
            deltas = predictor.deltas(visual_feats, obj_ids)
            boxes = decode(deltas / deltas.new_tensor(BOX_WEIGHTS), rois, rules.clamp_deltas)
            boxes = clip(boxes, *resized_hw, rules.plus_one) / per_axis
        else:
            boxes = rois / per_axis
        # NMS gets the boxes exactly as an output stores them, so that ``vlray tune`` can select
        # the same regions again from the output.
        boxes = clip(boxes, int(image_hw[0]), int(image_hw[1]), plus_one=False)
        if rules.nms == "best class":
            rows = _best_class(boxes, obj_probs, rules, self._options)
        else:
            rows = _each_class(boxes, probs, rules, self._options)
        regions = self._batch(
            image_hw,
            boxes[rows].cpu().numpy(),
            visual_feats[rows],
            class_logits[rows],
            obj_probs[rows],
            obj_ids[rows],
        )
        if self._with_class_probs:
            vectors = torch.cat([probs[rows], visual_feats[rows]], dim=1)
            return replace(regions, visual_feats=vectors.cpu().numpy())
        return regions

    def _batch(
        self,
        image_hw: Int32[np.ndarray, " 2"],
        boxes: Float32[np.ndarray, "R 4"],
        visual_feats: Float[Tensor, "R 2048"],
        class_logits: Float[Tensor, "R 1601"],
        obj_probs: Float[Tensor, " R"],
        obj_ids: Int64[Tensor, " R"],
    ) -> RegionBatch:
        """Predict the attributes of one image's regions, and build their ``RegionBatch``."""
        predictor = self._network.predictor
        attr_ids = attr_probs = None
        if predictor.with_attributes:
            scores = predictor.attributes(visual_feats, class_logits)
            if not self._rules.attribute_background:
                scores = scores[:, :-1]  # the last column is "no attribute"
            probs_of_attributes = scores.softmax(dim=1)
            best = probs_of_attributes[:, :ATTRIBUTES].max(dim=1)
            attr_probs, attr_ids = (values.cpu().numpy() for values in best)
        return RegionBatch(
            image_hw=image_hw[None],
            num_boxes=np.array([len(boxes)], np.int32),
            boxes=boxes,
            visual_feats=visual_feats.cpu().numpy(),
            obj_ids=obj_ids.int().cpu().numpy(),
            obj_probs=obj_probs.cpu().numpy(),
            attr_ids=None if attr_ids is None else attr_ids.astype(np.int32),
            attr_probs=attr_probs,
        )


def _each_class(
    boxes: Float[Tensor, "P 4"],
    probs: Float[Tensor, "P K"],
    rules: Conventions,
    options: DetectorSection,
) -> Int64[Tensor, " R"]:
    """Select proposals by the rule ``EachClass``, on the network's device.

    Source:
        generate_tsv.py of bottom-up attention.
    """
    (nms_thresh,) = rules.nms_thresh  # only presets with "best class" have several
    overlaps = box_iou(*(widened(boxes.double(), rules.plus_one),) * 2) > nms_thresh
    confidence = (probs * survivors_of(overlaps, probs)).amax(dim=1)
    rows = most_confident(confidence.cpu().numpy(), options)
    return torch.from_numpy(rows).to(boxes.device)


def _best_class(
    boxes: Float[Tensor, "P 4"],
    scores: Float[Tensor, " P"],
    rules: Conventions,
    options: DetectorSection,
) -> Int64[Tensor, " R"]:
    """Select proposals by the rule ``BestClass``, with NMS across classes.

    If no threshold leaves ``min_boxes`` survivors, the survivors of the last one are selected, and
    the image has fewer regions. Hugging Face's code would return the previous image's boxes.

    Source:
        detectron2_mscoco_proposal_maxnms.py of py-bottom-up-attention.
    """
    rows = select_one(
        boxes.cpu().numpy(),
        np.zeros(len(scores), np.int64),
        scores.cpu().numpy(),
        options.model_copy(update={"nms_thresh": 0}),
        nms_thresh=rules.nms_thresh,
        within_class=False,
        filled=False,
    )
    return torch.from_numpy(rows).to(boxes.device)


def _per_axis(scales: tuple[float, float], like: Tensor) -> Float[Tensor, " 4"]:
    return torch.tensor([scales[1], scales[0]] * 2, device=like.device)


def _caffe_scale(height: int, width: int, rules: Conventions) -> float:
    from vlray.images.resize import ResizeLikeCaffe

    return ResizeLikeCaffe(rules.min_size, rules.max_size).scale(height, width)
