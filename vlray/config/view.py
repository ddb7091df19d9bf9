"""Settings of ``vlray view``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.settings.base import Command, Splits


class ViewConfig(Command):
    """Draw the regions of an output and put them into a gallery page."""

    command: ClassVar[str] = "view"
    positionals: ClassVar[dict[str, str]] = {"OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "regions/",
        "regions/ --split val --min-score 0.5",
    )

    split: Splits = ()
    """Splits to show: one, several with commas between them, or repeated. Empty: every one."""

    output: Annotated[str, Field(min_length=1)]
    """Folder or URI that ``vlray extract`` or ``vlray convert`` wrote."""

    page: str = ""
    """Folder for the gallery. Empty: ``gallery`` inside the output."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Regions are drawn from this score on."""

    limit: Annotated[int, Field(ge=0)] = 0
    """Images to show at most. 0: all."""

    annotated: bool = True
    """Whether annotated images are written beside the page."""

    images_root: str = ""
    """Where the images are now. Empty: where they were extracted from."""
