"""Settings of ``vlray compare``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.base import Command


class CompareConfig(Command):
    """Compare two outputs of the same images, box by box."""

    command: ClassVar[str] = "compare"
    positionals: ClassVar[dict[str, str]] = {"A": "a", "B": "b"}

    a: Annotated[str, Field(min_length=1)]
    """One output: a folder or URI."""

    b: Annotated[str, Field(min_length=1)]
    """The other one."""
