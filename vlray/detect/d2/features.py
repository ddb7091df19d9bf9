"""Detectron2's R-CNN inference, step by step, so that it also returns the feature vectors.

Shapes: N: images; P: proposals of one image; M: proposals of all images; R: user boxes of one
image; K: classes; D: feature length; E: input length of the box predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from jaxtyping import Float, Float32, Int32, Int64, UInt8
from torch import Tensor

from vlray.config.detector import DetectorSection
from vlray.detect.d2.attributes import best_attributes
from vlray.detect.d2.box_head import run_box_layers
from vlray.detect.probabilities import class_columns
from vlray.detect.selection import boxes_of_class, select_regions
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True)
class BoxHeadOutput:
    """Output of the box head for one image's proposals.

    Attributes:
        boxes: Regressed boxes in pixels of the resized image; one per class, or one for all.
        probs: Class probabilities, without the background.
        visual_feats: The regions' feature vectors.
        inputs: Input vectors of the box predictor, which are the feature vectors of
            ``features=pooled``.
    """

    boxes: Float[Tensor, "P K 4"] | Float[Tensor, "P 4"]
    probs: Float[Tensor, "P K"]
    visual_feats: Float[Tensor, "P D"]
    inputs: Float[Tensor, "P E"]


@torch.inference_mode()
def find_regions_of(
    model: GeneralizedRCNN,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    image_hw: Int32[np.ndarray, "N 2"],
    options: DetectorSection,
) -> RegionBatch:
    """Run a network on images of one size, and select each image's regions.

    Args:
        model: A network in evaluation mode.
        images: Resized images, with channels in the network's order.
        image_hw: Height and width of the original images, in pixels.
        options: Thresholds and limits for the selection.

    Returns:
        Regions in the images' order, with boxes in pixels of the original images.

    Raises:
        ValueError: The images differ in size. Padding the smaller ones would change their
            features.
    """
    pixels, resized_hw = normalized(model, images)
    outputs = run_box_head(model, pixels, options.features)
    selected = [
        _select(output, resized_hw, original_hw, options)
        for output, original_hw in zip(outputs, image_hw.tolist(), strict=True)
    ]
    boxes, visual_feats, inputs, obj_ids, obj_probs, class_probs = (
        torch.cat(parts) for parts in zip(*selected, strict=True)
    )
    num_boxes = np.array([len(boxes) for boxes, *_ in selected], np.int32)
    regions = RegionBatch(
        image_hw=image_hw,
        num_boxes=num_boxes,
        boxes=_array(boxes),
        visual_feats=_array(visual_feats),
        **class_columns(class_probs, options),
    )
    return _labeled(model, regions, inputs, obj_ids, obj_probs)


@torch.inference_mode()
def pool_boxes_of(
    model: GeneralizedRCNN,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    image_hw: Int32[np.ndarray, "N 2"],
    user_boxes: Sequence[Float32[np.ndarray, "R 4"]],
    options: DetectorSection,
) -> RegionBatch:
    """Pool the user's boxes, unchanged, from images of one size.

    Every stage of a cascade pools the same boxes. ``find_regions_of`` moves boxes after pooling, so
    pooling the boxes that it returned yields different vectors.

    Args:
        model: A network in evaluation mode.
        images: Resized images, with channels in the network's order.
        image_hw: Height and width of the original images, in pixels.
        user_boxes: Boxes of each image, in pixels of the original image.
        options: ``features`` and ``class_probs``.

    Raises:
        ValueError: The images differ in size.
    """
    pixels, resized_hw = normalized(model, images)
    boxes = []
    for boxes_of_image, original_hw in zip(user_boxes, image_hw.tolist(), strict=True):
        tensor = torch.tensor(boxes_of_image, device=model.device)
        boxes.append(tensor * _scale(original_hw, resized_hw, tensor))
    outputs = run_box_head(model, pixels, options.features, boxes)
    class_probs = torch.cat([output.probs for output in outputs])
    obj_probs, obj_ids = class_probs.max(dim=1)
    visual_feats = torch.cat([output.visual_feats for output in outputs])
    num_boxes = np.array([len(boxes_of_image) for boxes_of_image in user_boxes], np.int32)
    regions = RegionBatch(
        image_hw=image_hw,
        num_boxes=num_boxes,
        boxes=np.concatenate(user_boxes),
        visual_feats=_array(visual_feats),
        **class_columns(class_probs, options),
    )
    inputs = torch.cat([output.inputs for output in outputs])
    return _labeled(model, regions, inputs, obj_ids, obj_probs)


def normalized(
    model: GeneralizedRCNN, images: Sequence[UInt8[np.ndarray, "h w 3"]]
) -> tuple[ImageList, tuple[int, int]]:
    """Normalize images with the network's mean and standard deviation, and stack them.

    Returns:
        The images as Detectron2 expects them, and their height and width before padding.

    Raises:
        ValueError: The images differ in size.
    """
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1:
        names = ", ".join(map(str, shapes))
        raise ValueError(
            f"all images in one call must have the same size, but got {names}; group them by size"
        )
    # Copies, because Ray's arrays are read-only and torch warns about those.
    tensors = [torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1) for image in images]
    return model.preprocess_image([{"image": x} for x in tensors]), shapes[0][:2]


def run_box_head(
    model: GeneralizedRCNN,
    images: ImageList,
    features: str = "pooled",
    user_boxes: Sequence[Float[Tensor, "P 4"]] | None = None,
) -> list[BoxHeadOutput]:
    """Run a network from normalized images to the output of its box head.

    Args:
        model: A network in evaluation mode.
        images: Images of one size.
        features: As in ``feature_dim_of``.
        user_boxes: Boxes in pixels of the resized images, used instead of proposals; a cascade
            does not move them.

    Source:
        Detectron2's inference, up to the point where its heads discard the vectors. A cascade's
        probabilities are the mean over its stages; boxes and vectors are those of the last stage
        (arXiv:1712.00726).
    """
    roi_heads = model.roi_heads
    feature_maps = model.backbone(images.tensor)
    if user_boxes is None:
        proposals, _ = model.proposal_generator(images, feature_maps, None)
    else:
        proposals = _as_proposals(user_boxes, images.image_sizes, clip=False)
    num_stages = getattr(roi_heads, "num_cascade_stages", 1)
    boxes: Sequence[Tensor] = ()
    stage_probs = []
    for stage in range(num_stages):
        # Each stage of a cascade pools the boxes that the stage before it regressed.
        if stage and user_boxes is None:
            proposals = _as_proposals(boxes, images.image_sizes)
        predictor, visual_feats, inputs = _pool(roi_heads, stage, feature_maps, proposals, features)
        predictions = predictor(inputs)
        stage_probs.append(predictor.predict_probs(predictions, proposals))
        boxes = predictor.predict_boxes(predictions, proposals)
    probs = [sum(parts) / num_stages for parts in zip(*stage_probs, strict=True)]
    counts = [len(p) for p in proposals]
    return [
        BoxHeadOutput(_by_class(b), p[:, :-1], v, i)  # the last class is the background
        for b, p, v, i in zip(
            boxes,
            probs,
            torch.split(visual_feats, counts),
            torch.split(inputs, counts),
            strict=True,
        )
    ]


def _pool(
    roi_heads: Any,
    stage: int,
    feature_maps: dict[str, Tensor],
    proposals: list[Instances],
    features: str,
) -> tuple[Any, Float[Tensor, "M D"], Float[Tensor, "M E"]]:
    """Pool all proposals; return a stage's box predictor, feature vectors and predictor inputs."""
    regions = [p.proposal_boxes for p in proposals]
    maps = [feature_maps[name] for name in roi_heads.in_features]
    if isinstance(roi_heads, Res5ROIHeads):
        vectors = roi_heads.res5(roi_heads.pooler(maps, regions)).mean(dim=[2, 3])
        return roi_heads.box_predictor, vectors, vectors
    assert isinstance(roi_heads, StandardROIHeads)
    head, predictor = roi_heads.box_head, roi_heads.box_predictor
    if isinstance(roi_heads, CascadeROIHeads):
        head, predictor = head[stage], predictor[stage]
    return predictor, *run_box_layers(head, roi_heads.box_pooler(maps, regions), features)


def _as_proposals(
    boxes: Sequence[Float[Tensor, "P 4"]],
    image_sizes: Sequence[tuple[int, int]],
    *,
    clip: bool = True,
) -> list[Instances]:
    """Wrap boxes as Detectron2's proposals, clipped to the images if ``clip`` is true."""
    proposals = []
    for boxes_of_image, size in zip(boxes, image_sizes, strict=True):
        instances = Instances(size)
        instances.proposal_boxes = Boxes(boxes_of_image.clone())
        if clip:
            instances.proposal_boxes.clip(size)
        proposals.append(instances)
    return proposals


def _by_class(boxes: Float[Tensor, "P K*4"]) -> Float[Tensor, "P K 4"] | Float[Tensor, "P 4"]:
    return boxes if boxes.shape[1] == 4 else boxes.view(len(boxes), boxes.shape[1] // 4, 4)


def _select(
    output: BoxHeadOutput,
    resized_hw: tuple[int, int],
    original_hw: tuple[int, int],
    options: DetectorSection,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Select one image's regions.

    Returns:
        Boxes in pixels of the original image, feature vectors, inputs of the box predictor,
        classes and their probabilities, and the probabilities of all classes.
    """
    best = boxes_of_class(output.boxes, output.probs.max(dim=1).indices)
    scale = _scale(resized_hw, original_hw, best)
    # NMS gets the boxes exactly as an output stores them, so that ``vlray tune`` can select the
    # same regions again from the output.
    boxes = _clip(_clip(best, resized_hw) * scale, original_hw)
    indices, obj_ids, obj_probs = select_regions(boxes, output.probs, options)
    feats, inputs, probs = (
        values[indices] for values in (output.visual_feats, output.inputs, output.probs)
    )
    return boxes[indices], feats, inputs, obj_ids, obj_probs, probs


def _labeled(
    model: GeneralizedRCNN,
    regions: RegionBatch,
    inputs: Float[Tensor, "R E"],
    obj_ids: Int64[Tensor, " R"],
    obj_probs: Float[Tensor, " R"],
) -> RegionBatch:
    """Add classes, and attributes if the network predicts them, to regions of all images."""
    regions = replace(regions, obj_ids=obj_ids.int().cpu().numpy(), obj_probs=_array(obj_probs))
    best = best_attributes(model, inputs, obj_ids)
    if best is None:
        return regions
    attr_ids, attr_probs = best
    return replace(regions, attr_ids=attr_ids.int().cpu().numpy(), attr_probs=_array(attr_probs))


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _scale(from_hw: Sequence[int], to_hw: Sequence[int], like: Tensor) -> Float[Tensor, " 4"]:
    """Return the factors that scale x1, y1, x2, y2 from one image size to another."""
    return like.new_tensor([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]]).repeat(2)


def _clip(boxes: Float[Tensor, "*P 4"], hw: Sequence[int]) -> Float[Tensor, "*P 4"]:
    """Clip boxes to an image; non-finite coordinates become NaN, and selection drops the box."""
    limit = boxes.new_tensor([hw[1], hw[0]]).repeat(2)
    finite = boxes.where(boxes.isfinite(), torch.nan)
    return finite.clamp(min=torch.zeros_like(limit), max=limit)
