"""Settings of ``vlray datasets``."""

from __future__ import annotations

from typing import ClassVar, Literal

from vlray.config.base import Command
from vlray.config.data import DataSection


class DatasetsConfig(Command):
    """Look at the vision-language datasets: which there are, their files, what is missing."""

    command: ClassVar[str] = "datasets"
    positionals: ClassVar[dict[str, str]] = {"ACTION": "action", "NAME": "name"}
    examples: ClassVar[tuple[str, ...]] = ("list",)

    action: Literal["list", "show", "check", "add"] = "list"
    """``list``: the catalogue. ``show NAME``: all that is known of a dataset. ``check NAME``: which
    files are here, how many examples they give, what is wrong with them. ``add``: a dataset of your
    own."""

    name: str = ""
    """A dataset, or ``dataset:split``; for ``add``: a YAML file, or ``module:Class``."""

    data: DataSection = DataSection()
