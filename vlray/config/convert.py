"""Settings of ``vlray convert``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.base import Command


class ConvertConfig(Command):
    """Bring other tools' region files into an output, and an output into theirs."""

    command: ClassVar[str] = "convert"
    positionals: ClassVar[dict[str, str]] = {"SOURCE": "source", "OUT": "output"}

    source: Annotated[str, Field(min_length=1)]
    """File or folder of region features; or the output of ``vlray extract``, to be exported."""

    output: Annotated[str, Field(min_length=1)]
    """Where the result goes."""
