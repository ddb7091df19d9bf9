"""Options of the detector."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Section

BOXES = 36  # of each image, as in the features that LXMERT was trained on


class DetectorSection(Section):
    """Which detector, and which of its boxes to keep."""

    name: str = "lite"
    """A preset (``lite``, ``vg-caffe``, ``vg-pbua``), a stored name (``vlray env set models.NAME
    ...``), a Detectron2 ``config.yaml``, or a class of your own: ``module:Class`` or
    ``path/to/file.py:Class``."""

    weights: str = ""
    """Weights for it: a local file, a URL or a name on the Hugging Face hub
    (``unc-nlp/frcnn-vg-finetuned``); ``vg-*`` take each of the three published files. Empty: the
    detector's own."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` is CUDA where the cluster gives the detector's actor a GPU, else the CPU."""

    batch_size: Annotated[int, Field(ge=0)] = 0
    """Images of one resized size in a forward pass. 0: 8 on a GPU, 1 on a CPU."""

    min_size: Annotated[int, Field(ge=0)] = 0
    """Length that the image's shorter side is resized to, pixels. 0: the detector's own."""

    max_size: Annotated[int, Field(ge=0)] = 0
    """Limit of the longer side after resizing, pixels. 0: the detector's own."""

    score_thresh: Annotated[float, Field(ge=0, le=1)] = 0.2
    """A region's best class score to be kept beyond ``min_boxes``."""

    nms_thresh: Annotated[float, Field(ge=0, le=1)] = 0
    """Of two boxes of one class whose IoU is above this, the lower score goes. 0: the detector's
    own (``vg-caffe`` 0.3; ``vg-pbua`` 0.5, 0.6, ... 0.9 in turn, until there are ``min_boxes``;
    others 0.5)."""

    post_nms_topk: Annotated[int, Field(ge=0)] = 0
    """Proposals of an image that are pooled at most. 0: the detector's own (``vg-*`` 300)."""

    min_boxes: Annotated[int, Field(ge=0)] = BOXES
    """Regions kept per image at least, however low their scores; fewer only where the image
    gives no more. Not above a ``max_boxes`` that is given alone."""

    max_boxes: Annotated[int, Field(ge=1)] = BOXES
    """Regions kept per image at most. Not below a ``min_boxes`` that is given alone."""

    features: Literal["pooled", "grid", "none"] = "pooled"
    """``pooled``: the vector of each region. ``none``: boxes and classes only, a table without
    ``visual_feats``. ``grid``: instead of what was detected, the cells of a grid over the image,
    row by row, without classes (arXiv:2001.03615); ``vg-*`` and Detectron2's ResNets have one."""

    grid_layer: Literal["res5", "c4"] = "res5"
    """The network's map whose vectors the cells of ``features=grid`` take: ``c4`` has 16 pixels of
    the resized image to a cell; ``res5`` is that map after the network's last stage."""

    grid_size: Annotated[int, Field(ge=0)] = 0
    """Cells of each row and of each column; the map is averaged to them. 0: the map's own size,
    which for ``vg-caffe`` is about 38 x 50."""

    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of ``vg-*``'s last stage, which is most of the work. The backbone and what decides where
    regions are stay in float32. ``tf32`` needs a GPU; ``bf16`` is fast on CPUs that have it."""

    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Whatever else a detector of your own wants to know, by name."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, values: Any) -> Any:
        """Let the limit that is not given follow the one that is, where they would cross."""
        if not isinstance(values, dict) or len({"min_boxes", "max_boxes"} & values.keys()) != 1:
            return values
        (given,) = {"min_boxes", "max_boxes"} & values.keys()
        try:
            number = int(values[given])
        except (TypeError, ValueError):
            return values  # the field itself says what is wrong with it
        if given == "max_boxes" and number < BOXES:
            return {**values, "min_boxes": number}
        if given == "min_boxes" and number > BOXES:
            return {**values, "max_boxes": number}
        return values

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.features != "grid" and (self.grid_size or self.grid_layer != "res5"):
            raise ValueError(
                f"grid_layer={self.grid_layer} and grid_size={self.grid_size} are for "
                f"features=grid, not {self.features}"
            )
        return self

    @model_validator(mode="after")
    def _check_boxes(self) -> Self:
        if self.min_boxes > self.max_boxes:
            raise ValueError(
                f"min_boxes={self.min_boxes} exceeds max_boxes={self.max_boxes}; "
                "give both the same number for a fixed count"
            )
        return self
