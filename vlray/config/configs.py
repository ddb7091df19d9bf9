"""Settings of ``vlray configs``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from vlray.settings.base import ActionHelp, Command


class ConfigsConfig(Command):
    """List the configuration files that vlray brings, or copy them to a folder."""

    command: ClassVar[str] = "configs"
    positionals: ClassVar[dict[str, str]] = {"ACTION": "action", "NAME": "name", "OUT": "out"}
    examples: ClassVar[tuple[str, ...]] = ("list", "copy", "copy train/rad-lxmert.yaml my-configs")
    common: ClassVar[tuple[str, ...]] = ("action", "name", "out")
    actions: ClassVar[dict[str, ActionHelp]] = {
        "list": ActionHelp(
            usage="vlray configs list",
            description="List the configuration files that vlray brings.",
            options=(),
            examples=("list",),
        ),
        "copy": ActionHelp(
            usage="vlray configs copy [NAME] [OUT]",
            description=(
                "Copy all files, a folder of them or one file to OUT (default: configs), where "
                "--config and vlray pipeline find them. Files that you have changed are kept."
            ),
            options=(),
            examples=("copy", "copy train", "copy train/rad-lxmert.yaml my-configs"),
        ),
    }

    action: Literal["list", "copy"] = "list"
    """``list``: list the files. ``copy``: copy them, to use or edit them."""

    name: str = ""
    """A file or a folder of the list. Empty: all files."""

    out: Path = Path("configs")
    """Folder for the copies."""
