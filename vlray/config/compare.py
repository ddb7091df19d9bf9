"""Settings of ``vlray compare``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.base import Command


class CompareConfig(Command):
    """Measure how two outputs of the same images differ: boxes, features, labels, scores."""

    command: ClassVar[str] = "compare"
    positionals: ClassVar[dict[str, str]] = {"A": "first", "B": "second"}
    examples: ClassVar[tuple[str, ...]] = ("published/ mine/",)

    first: Annotated[str, Field(min_length=1)]
    """Folder or URI of an output: the one that differences are measured against."""

    second: Annotated[str, Field(min_length=1)]
    """Folder or URI of the output to compare with it."""
