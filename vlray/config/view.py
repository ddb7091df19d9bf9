"""Options of ``vlray view``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.settings.base import Command, Splits


class ViewConfig(Command):
    """Make a gallery page of an output with its regions drawn on the images."""

    command: ClassVar[str] = "view"
    positionals: ClassVar[dict[str, str]] = {"OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "regions/",
        "regions/ --split val --min-score 0.5",
    )

    split: Splits = ()
    """Splits to show, separated by commas or given repeatedly. Empty: all splits."""

    output: Annotated[str, Field(min_length=1)]
    """Folder or URI of an output of ``vlray extract`` or ``vlray convert``."""

    page: str = ""
    """Folder or URI for the gallery. Empty: ``gallery`` inside the output."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Minimum score of the regions to draw."""

    limit: Annotated[int, Field(ge=0)] = 0
    """Maximum number of images. 0: all."""

    annotated: bool = True
    """Write annotated images beside the page."""

    images_root: str = ""
    """Folder or URI of the images. Empty: where they were extracted from."""
