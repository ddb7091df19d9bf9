"""Settings of ``vlray convert``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.base import Command


class ConvertConfig(Command):
    """Turn region features of other tools into vlray's Parquet, and back."""

    command: ClassVar[str] = "convert"
    positionals: ClassVar[dict[str, str]] = {"IN": "source", "OUT": "target"}
    examples: ClassVar[tuple[str, ...]] = ("train2014_obj36.tsv regions/",)

    source: Annotated[str, Field(min_length=1)]
    """A file or folder of another tool, or an output of vlray."""

    target: Annotated[str, Field(min_length=1)]
    """What to write: a folder for vlray's Parquet, else a file or folder of another tool."""
