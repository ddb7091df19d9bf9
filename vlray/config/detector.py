"""Options of the detector."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Code, Section

BOXES = 36  # regions per image in the features that LXMERT was trained on
TOP_CLASSES = 5  # classes of class_probs=top5
PRESET_BOXES = {"vinvl": (10, 100)}
"""Fewest and most regions per image, keyed by the presets for which they are not ``BOXES``."""


class DetectorSection(Section):
    """The detector, and the rules that select its regions."""

    name: Code = "lite"
    """A preset (``lite``, ``vg-caffe``, ``vg-pbua``, ``vinvl``), a stored name (``vlray env set
    models.NAME ...``), a Detectron2 ``config.yaml``, or a class of your own: ``module:Class`` or
    ``path/to/file.py:Class``."""

    weights: str = ""
    """Weights: a local file, a URL or a name on the Hugging Face Hub
    (``unc-nlp/frcnn-vg-finetuned``). ``vg-*`` load each of the three published files. Empty: the
    detector's default weights."""

    labels: str = ""
    """Class names for weights that have none: for ``vinvl``, the label map that was published with
    them, ``VG-SGG-dicts-vgoi6-clipped.json``. Empty: classes are numbered."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` uses CUDA if the detector's actor has a GPU, otherwise the CPU."""

    batch_size: Annotated[int, Field(ge=0)] = 0
    """Images of one resized size in a forward pass. 0: 8 on a GPU, 1 on a CPU."""

    min_size: Annotated[int, Field(ge=0)] = 0
    """Length of an image's shorter side after resizing, pixels. 0: the detector's default."""

    max_size: Annotated[int, Field(ge=0)] = 0
    """Limit of the longer side after resizing, pixels. 0: the detector's default."""

    # The default is that of bottom-up attention's generate_tsv.py.
    score_thresh: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Lowest score of a region's best class. Regions below it are kept only to reach
    ``min_boxes``."""

    nms_thresh: Annotated[float, Field(ge=0, le=1)] = 0
    """IoU above which a box suppresses another box of the same class and a lower score. 0: the
    detector's default (``vg-caffe`` 0.3; ``vg-pbua`` 0.5, 0.6, ... 0.9 in turn until ``min_boxes``
    regions are left, across classes; ``vinvl`` 0.3, or 0.5 with ``nms_filter=2``; others 0.5)."""

    nms_filter: Literal[0, 1, 2] = 0
    """VinVL's selection rule, only for ``vinvl``. 1: NMS within each class, as for the released
    features. 2: one NMS over all classes, which is faster. 0: the detector's default, 1."""

    post_nms_topk: Annotated[int, Field(ge=0)] = 0
    """Largest number of proposals that are pooled per image. 0: the detector's default (``vg-*``
    and ``vinvl`` 300)."""

    min_boxes: Annotated[int, Field(ge=0)] = BOXES
    """Smallest number of regions kept per image, however low their scores; ``vinvl``: 10. An image
    with fewer regions keeps all of them. Lowered to ``max_boxes`` if only that is set."""

    max_boxes: Annotated[int, Field(ge=1)] = BOXES
    """Largest number of regions kept per image; ``vinvl``: 100. Raised to ``min_boxes`` if only
    that is set."""

    features: Literal["pooled", "fc6", "fc7", "grid", "none"] = "pooled"
    """``pooled``: a feature vector for each region. ``fc6``, ``fc7``: that layer of a box head with
    fully connected layers, such as a feature pyramid's. ``none``: boxes and classes only, without
    the column ``visual_feats``. ``grid``: grid features (arXiv:2001.03615) instead of regions, the
    cells of a feature map, row by row, without classes; for ``lite``, ``vg-*`` and ResNets of
    Detectron2."""

    grid_layer: Literal["res5", "c4", "stages"] = "res5"
    """Feature map for ``features=grid``: ``c4`` has one cell per 16 x 16 pixels of the resized
    image; ``res5`` is the map after the network's last stage; ``stages`` (``lite`` only) is several
    maps behind one another, from shapes to ImageNet's classes."""

    grid_size: Annotated[int, Field(ge=0)] = 0
    """Number of rows and of columns that the map of ``features=grid`` is averaged to. 0: the map's
    own size, about 38 x 50 for ``vg-caffe``."""

    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Precision of the last stage of ``vg-*`` and ``vinvl``. The backbone and all that
    decides the boxes stay in float32. ``tf32`` needs a GPU; ``bf16`` is fast on CPUs that support
    it."""

    backbone_precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Precision of the backbone of ``vg-*``. Anything but ``fp32`` is faster on a GPU and changes
    which boxes are proposed; see vlray/detect/README.md for how many."""

    class_probs: Literal["none", "top5", "all"] = "none"
    """Class probabilities to store in float16. ``all``: the column ``cls_probs`` with all classes,
    as for ViLBERT, VOLTA and M2. ``top5``: ``top_obj_ids`` and ``top_obj_probs``."""

    max_attributes: Annotated[int, Field(ge=1, le=16)] = 1
    """Attributes stored for each region. More than 1: the columns ``top_attr_ids`` and
    ``top_attr_probs``, with as many; VinVL's files have 16."""

    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Options that only your own detector class knows, by name."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, values: object) -> object:
        """Set missing limits: to the preset's own, or to the other limit if it would contradict."""
        if not isinstance(values, dict):
            return values
        fewest, most = PRESET_BOXES.get(str(values.get("name")), (BOXES, BOXES))
        try:
            # The values may still be text, since this runs before validation.
            fewest = min(fewest, int(values.get("max_boxes", most)))
            most = max(most, int(values.get("min_boxes", fewest)))
        except (TypeError, ValueError):
            return values  # validation of the field reports the error
        if (fewest, most) == (BOXES, BOXES):
            return values  # the fields' own defaults
        # Only `--max-boxes 10` would otherwise be refused, as the default min_boxes is 36.
        return {"min_boxes": fewest, "max_boxes": most} | values

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.features != "grid" and (self.grid_size or self.grid_layer != "res5"):
            raise ValueError(
                f"grid_layer={self.grid_layer} and grid_size={self.grid_size} have no effect with "
                f"features={self.features}; set features=grid, or remove them"
            )
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.features == "grid" and (self.class_probs != "none" or self.max_attributes > 1):
            raise ValueError(
                "grid cells have no classes; remove class_probs and max_attributes, or features"
            )
        return self

    @model_validator(mode="after")
    def _check_boxes(self) -> Self:
        if self.min_boxes > self.max_boxes:
            raise ValueError(
                f"min_boxes={self.min_boxes} exceeds max_boxes={self.max_boxes}; "
                "set both to the same number for a fixed count"
            )
        return self
