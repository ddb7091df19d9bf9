"""Options of the detector."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.config.section import Section

BOXES = 36  # of each image, as in the features that LXMERT was trained on


class DetectorSection(Section):
    """Which detector, and which of its boxes to keep."""

    name: str = "lite"
    """A preset (``lite``), a stored name (``vlray env set models.NAME ...``), a Detectron2
    ``config.yaml``, or a class of your own: ``module:Class`` or ``path/to/file.py:Class``."""

    weights: str = ""
    """Weights for it: a local file or a URL. Empty: the detector's own."""

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

    nms_thresh: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of two boxes of one class whose IoU is above this, the lower score goes."""

    min_boxes: Annotated[int, Field(ge=0)] = BOXES
    """Regions kept per image at least, however low their scores; fewer only where the image
    gives no more. Not above a ``max_boxes`` that is given alone."""

    max_boxes: Annotated[int, Field(ge=1)] = BOXES
    """Regions kept per image at most. Not below a ``min_boxes`` that is given alone."""

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
    def _check_boxes(self) -> Self:
        if self.min_boxes > self.max_boxes:
            raise ValueError(
                f"min_boxes={self.min_boxes} exceeds max_boxes={self.max_boxes}; "
                "give both the same number for a fixed count"
            )
        return self
