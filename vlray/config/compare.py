"""Options of ``vlray compare``."""

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
        "train2014_obj36.tsv regions/ --id-rule coco",
        "before/ after/ --min-matched 0.97 --min-cosine 0.999   (exit status 1 if below)",
    )

    split: Splits = ()
    """Splits to compare, separated by commas or given repeatedly. Empty: all splits."""

    a: Annotated[str, Field(min_length=1)]
    """The reference: folder or URI of an output of ``vlray extract`` or ``vlray convert``, or a
    local file or folder of another tool (``vlray convert --formats``), which is imported for the
    time of the comparison."""

    b: Annotated[str, Field(min_length=1)]
    """The output to compare with the reference, or another tool's file, as A."""

    iou_thresh: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Minimum IoU of two matched boxes. Boxes are matched one to one, the highest IoU first."""

    worst: Annotated[int, Field(ge=0, le=1000)] = 20
    """Number of images on the page for each sort order (unmatched boxes, features, classes and so
    on). 0: no page."""

    report: str = ""
    """Folder or URI for ``compare.json`` and ``compare.html``. Empty: the run folder."""

    images_root: str = ""
    """Folder or URI of the images. Empty: where they were extracted from. For files of other tools,
    also the photographs that have the sizes of the images."""

    trust_pickle: bool = False
    """Whether to open pickled files of other tools, as in ``vlray convert``."""

    sizes: str = ""
    """File with the sizes of the images, for files of other tools without sizes, as in ``vlray
    convert``."""

    id_rule: str = "keep"
    """Rule that turns ids in files of other tools into image ids, as in ``vlray convert``."""

    min_matched: Annotated[float, Field(ge=0, le=1)] = 0
    """Minimum share of all boxes, of A and B together, that have a partner. Below it the command
    exits with status 1. 0: no limit."""

    min_cosine: Annotated[float, Field(ge=-1, le=1)] = -1
    """Minimum mean cosine of the features of matched boxes. Below it the command exits with status
    1. -1: no limit."""
