"""Regions of several images as plain arrays.

Shapes: N: images; R: regions of all N images together, without padding; D: feature length; K:
object classes; T: classes or attributes that are stored of each region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int32


@dataclass(frozen=True, eq=False)
class RegionBatch:
    """Regions of N images, concatenated: all regions of image 0, then all of image 1, etc.

    Attributes:
        image_hw: Height and width of each original image after EXIF rotation, in pixels.
        num_boxes: Number of regions in each image; the sum is R.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        visual_feats: Feature vector of each region; (R, 0) if only boxes were extracted.
        obj_ids: Object class of each region, as an index into the detector's ``obj_names``; None
            if there are no object labels.
        obj_probs: Probability of the object class; None if there are no probabilities.
        attr_ids: Attribute of each region, as an index into the detector's ``attr_names``; None if
            there are no attributes, for example if the detector has no attribute head.
        attr_probs: Probability of the attribute; None if there are no probabilities.
        cls_probs: Probabilities of all K object classes, without the background; None unless they
            were asked for.
        top_obj_ids: The best object classes, in descending order of probability; None unless they
            were asked for.
        top_obj_probs: Probabilities of ``top_obj_ids``.
        top_attr_ids: The best attributes, in descending order of probability; None unless they
            were asked for.
        top_attr_probs: Probabilities of ``top_attr_ids``; 0 for an attribute that counts as absent.
    """

    image_hw: Int32[np.ndarray, "N 2"]
    num_boxes: Int32[np.ndarray, N]
    boxes: Float32[np.ndarray, "R 4"]
    visual_feats: Float32[np.ndarray, "R D"] | Float16[np.ndarray, "R D"]
    obj_ids: Int32[np.ndarray, R] | None = None
    obj_probs: Float32[np.ndarray, R] | None = None
    attr_ids: Int32[np.ndarray, R] | None = None
    attr_probs: Float32[np.ndarray, R] | None = None
    cls_probs: Float16[np.ndarray, "R K"] | None = None
    top_obj_ids: Int32[np.ndarray, "R T"] | None = None
    top_obj_probs: Float16[np.ndarray, "R T"] | None = None
    top_attr_ids: Int32[np.ndarray, "R T"] | None = None
    top_attr_probs: Float16[np.ndarray, "R T"] | None = None

    def __post_init__(self) -> None:
        if len(self.image_hw) != len(self.num_boxes):
            raise ValueError(
                "image_hw and num_boxes must have one row per image, but have "
                f"{len(self.image_hw)} and {len(self.num_boxes)} rows"
            )
        regions = int(self.num_boxes.sum())
        # The first two fields have one row per image; all others have one row per region.
        for field in fields(self)[2:]:
            values = getattr(self, field.name)
            if values is not None and len(values) != regions:
                raise ValueError(
                    f"{field.name} has {len(values)} rows, but num_boxes sums to {regions}; pass "
                    "one row per region"
                )

    def __repr__(self) -> str:
        dim = self.visual_feats.shape[-1]
        return f"RegionBatch({len(self)} images, {len(self.boxes)} regions of {dim} values)"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.num_boxes)

    def __iter__(self) -> Iterator[RegionBatch]:
        """Yield the regions of each image as a batch of one image."""
        ends = np.cumsum(self.num_boxes)
        for index, end in enumerate(ends):
            rows = slice(end - self.num_boxes[index], end)
            columns: dict[str, Any] = {
                field.name: None if (values := getattr(self, field.name)) is None else values[rows]
                for field in fields(self)[2:]
            }
            yield RegionBatch(
                self.image_hw[index : index + 1], self.num_boxes[index : index + 1], **columns
            )

    @classmethod
    def concat(cls, batches: Sequence[RegionBatch]) -> RegionBatch:
        """Concatenate batches from one detector.

        Raises:
            ValueError: There are no batches, or a column is None in some batches but not in others.
        """
        if not batches:
            raise ValueError("no batches to concatenate; pass at least one")
        columns: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(batch, field.name) for batch in batches]
            absent = [value is None for value in values]
            if any(absent) and not all(absent):
                raise ValueError(
                    f"{field.name} must be in all batches or in none, but only some have it"
                )
            columns[field.name] = None if absent[0] else np.concatenate(values)
        return cls(**columns)
