"""Detect, pool and select regions with the Visual Genome network, under a preset's conventions.

Shapes: N: images; P: proposals of one image; K: 1,600 classes; R: selected regions of one image;
M: selected regions of all images; H, W: height and width of the C4 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import Conventions
from vlray.detect.grid import grid_regions
from vlray.detect.probabilities import attribute_columns, class_columns
from vlray.detect.transfer import on_host, stacked, to_device
from vlray.detect.visual_genome.model import VgNetwork
from vlray.detect.visual_genome.proposals import anchors_of, clip, decode, propose
from vlray.detect.visual_genome.selection import best_class, each_class
from vlray.detect.visual_genome.shapes import ATTRIBUTES, BOX_WEIGHTS, OBJECTS, PIXEL_MEAN
from vlray.regions.batch import RegionBatch

_CACHED_SIZES = 256  # sizes of maps whose anchors are cached, up to 1 MB each


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
        self._mean = torch.tensor(PIXEL_MEAN, device=network.device)
        self._cached_anchors: dict[tuple[int, int], Tensor] = {}

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
        maps, resized_hw = self._maps(images)
        logits, deltas = network.objectness(maps)
        boxes = decode(deltas, self._anchors(*maps.shape[2:]), self._rules.clamp_deltas)
        batches = []
        for part in self._parts(len(images)):
            rois, usable = [], []
            for index in range(part.start, part.stop):
                # Only vg-caffe's rule min_side needs a scale, and its two scales are equal.
                scale = min(self._scales(resized_hw, image_hw[index]))
                found = propose(logits[index], boxes[index], *resized_hw, scale, self._rules)
                rois.append(found[0])
                usable.append(found[1])
            batches.append(self._regions(maps[part], rois, usable, resized_hw, image_hw[part]))
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
        for part in self._parts(len(images)):
            rois = []
            for image_boxes, hw in zip(boxes[part], image_hw[part], strict=True):
                factors = _per_axis(self._scales(resized_hw, hw))
                rois.append(to_device(image_boxes * factors, network.device))
            visual_feats = network.pool(maps[part], rois)
            logits = network.predictor.cls_score(visual_feats)
            best = logits.softmax(dim=1)[:, :OBJECTS].max(dim=1)
            batches.append(
                self._batch(image_hw[part], list(boxes[part]), visual_feats, logits, *best)
            )
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
        pixels = stacked(images, self._network.device).float()
        pixels -= self._mean
        return self._network.c4(pixels.permute(0, 3, 1, 2)), shapes[0][:2]

    def _anchors(self, height: int, width: int) -> Float[Tensor, "M 4"]:
        """Return the anchors of a map on the network's device, cached by the map's size."""
        if (height, width) not in self._cached_anchors:
            if len(self._cached_anchors) == _CACHED_SIZES:
                self._cached_anchors.clear()
            anchors = anchors_of(self._rules.anchors, height, width)
            self._cached_anchors[height, width] = anchors.to(self._network.device)
        return self._cached_anchors[height, width]

    def _parts(self, images: int) -> list[slice]:
        """Divide a batch into the images whose regions are processed together.

        On a CPU, this is each image by itself, so that a batch changes no feature.
        """
        if self._network.device.type == "cuda":
            return [slice(0, images)]
        return [slice(index, index + 1) for index in range(images)]

    def _scales(
        self, resized_hw: tuple[int, int], original_hw: Int32[np.ndarray, " 2"]
    ) -> tuple[float, float]:
        """Return the scales from original to resized pixels, vertical and horizontal."""
        height, width = original_hw.tolist()
        if self._rules.resize == "opencv":
            return (_caffe_scale(height, width, self._rules),) * 2
        return resized_hw[0] / height, resized_hw[1] / width

    def _regions(
        self,
        maps: Float[Tensor, "N 1024 H W"],
        rois: Sequence[Float[Tensor, "P 4"]],
        usable: Sequence[Bool[Tensor, ""]],
        resized_hw: tuple[int, int],
        image_hw: Int32[np.ndarray, "N 2"],
    ) -> RegionBatch:
        """Pool, classify and select the proposals of N images.

        On a GPU, the host waits twice: for what the selection needs, and for the result.
        """
        predictor, rules, device = self._network.predictor, self._rules, self._network.device
        counts = [len(image_rois) for image_rois in rois]
        factors = [_per_axis(self._scales(resized_hw, hw)) for hw in image_hw]
        per_axis = to_device(np.repeat(np.stack(factors), counts, axis=0), device)
        limits = image_hw[:, [1, 0, 1, 0]].astype(np.float32)  # width and height, twice
        limit = to_device(np.repeat(limits, counts, axis=0), device)
        proposals = torch.cat([*rois])
        visual_feats = self._network.pool(maps, rois)
        class_logits = predictor.cls_score(visual_feats)
        probs = class_logits.softmax(dim=1)[:, :OBJECTS]  # without the background
        obj_probs, obj_ids = probs.max(dim=1)
        if rules.regressed_boxes:
            # Only the best class's deltas: the work for the other 1,599 classes would be wasted.
            deltas = predictor.deltas(visual_feats, obj_ids)
            centers, _, sides, _ = BOX_WEIGHTS
            deltas = torch.cat([deltas[:, :2] / centers, deltas[:, 2:] / sides], dim=1)
            boxes = decode(deltas, proposals, rules.clamp_deltas)
            boxes = clip(boxes, *resized_hw, rules.plus_one) / per_axis
        else:
            boxes = proposals / per_axis
        # NMS gets the boxes exactly as an output stores them, so that ``vlray tune`` can select
        # the same regions again from the output.
        boxes = boxes.clamp(min=0).minimum(limit)
        is_usable = [flag.expand(count) for flag, count in zip(usable, counts, strict=True)]
        needs_all = rules.nms == "each class" or self._with_class_probs
        host = on_host(torch.cat(is_usable), boxes, probs if needs_all else obj_probs)
        rows: list[Int64[np.ndarray, " R"]] = []
        selected: list[Float32[np.ndarray, "R 4"]] = []
        start = 0
        for count in counts:
            flags, image_boxes, scores = (values[start : start + count] for values in host)
            chosen = self._select(image_boxes, scores) if flags.all() else np.zeros(0, np.int64)
            rows.append(start + chosen)
            selected.append(image_boxes[chosen])
            start += count
        every = np.concatenate(rows)
        indices = to_device(every, device)
        regions = self._batch(
            image_hw,
            selected,
            visual_feats[indices],
            class_logits[indices],
            obj_probs[indices],
            obj_ids[indices],
        )
        if self._with_class_probs:
            vectors = np.concatenate([host[2][every], regions.visual_feats], axis=1)
            return replace(regions, visual_feats=vectors)
        return regions

    def _select(
        self, boxes: Float32[np.ndarray, "P 4"], scores: Float32[np.ndarray, "P ..."]
    ) -> Int64[np.ndarray, " R"]:
        """Select the regions of one image, given the probabilities that the preset's rule needs."""
        if self._rules.nms == "best class":
            best = scores if scores.ndim == 1 else scores.max(axis=1)
            return best_class(boxes, best, self._rules, self._options)
        return each_class(boxes, scores, self._rules, self._options)

    def _batch(
        self,
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
        visual_feats: Float[Tensor, "M 2048"],
        class_logits: Float[Tensor, "M 1601"],
        obj_probs: Float[Tensor, " M"],
        obj_ids: Int64[Tensor, " M"],
    ) -> RegionBatch:
        """Predict the attributes of the regions of N images, and build their ``RegionBatch``."""
        predictor = self._network.predictor
        columns = [visual_feats, obj_probs, obj_ids]
        wide = class_columns(class_logits.softmax(dim=1)[:, :OBJECTS], self._options)
        if predictor.with_attributes:
            scores = predictor.attributes(visual_feats, class_logits)
            if not self._rules.attribute_background:
                scores = scores[:, :-1]  # the last column is "no attribute"
            of_attributes = scores.softmax(dim=1)[:, :ATTRIBUTES]
            columns += of_attributes.max(dim=1)
            wide |= attribute_columns(of_attributes, self._options)
        feats, probs, ids, *attributes = on_host(*columns)
        attr_probs, attr_ids = attributes or (None, None)
        return RegionBatch(
            image_hw=image_hw,
            num_boxes=np.array([len(image_boxes) for image_boxes in boxes], np.int32),
            boxes=np.concatenate([*boxes]),
            visual_feats=feats,
            obj_ids=ids.astype(np.int32),
            obj_probs=probs,
            attr_ids=None if attr_ids is None else attr_ids.astype(np.int32),
            attr_probs=attr_probs,
            **wide,
        )


def _per_axis(scales: tuple[float, float]) -> Float32[np.ndarray, " 4"]:
    return np.array([scales[1], scales[0]] * 2, np.float32)


def _caffe_scale(height: int, width: int, rules: Conventions) -> float:
    from vlray.images.resize import ResizeLikeCaffe

    return ResizeLikeCaffe(rules.min_size, rules.max_size).scale(height, width)
