"""Settings of ``vlray compare``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.settings.base import Command, Splits


class CompareConfig(Command):
    """Compare two outputs of the same images, box by box."""

    command: ClassVar[str] = "compare"
    positionals: ClassVar[dict[str, str]] = {"A": "a", "B": "b"}
    examples: ClassVar[tuple[str, ...]] = (
        "regions-fp32/ regions-bf16/",
        "published/ regions/ --iou-thresh 0.7 --worst 50",
        "before/ after/ --min-matched 0.97 --min-cosine 0.999   (status 1 below)",
    )

    split: Splits = ()
    """Splits to compare: one, several with commas between them, or repeated. Empty: every one."""

    a: Annotated[str, Field(min_length=1)]
    """An output of ``vlray extract`` or ``vlray convert``: a folder or URI. The reference."""

    b: Annotated[str, Field(min_length=1)]
    """The output that is held against it."""

    iou_thresh: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Two boxes are partners from this IoU on; the pair of the highest IoU is matched first, and
    each box once."""

    worst: Annotated[int, Field(ge=0, le=1000)] = 20
    """Images on the page for each of its orders (unmatched boxes, features, classes and so on).
    0: no page."""

    report: str = ""
    """Folder or URI for ``compare.json`` and ``compare.html``. Empty: the folder of the run."""

    images_root: str = ""
    """Where the images are now. Empty: where they were extracted from."""

    min_matched: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of both sides' boxes that must have a partner; with fewer the command ends with
    status 1. 0: any."""

    min_cosine: Annotated[float, Field(ge=-1, le=1)] = -1
    """Mean cosine that the features of matched boxes must have, likewise. -1: any."""
