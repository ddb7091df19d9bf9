"""Settings of ``vlray pipeline``."""

from __future__ import annotations

from typing import ClassVar

from vlray.config.base import Command


class PipelineConfig(Command):
    """Run the steps of a file, each a command of vlray; what is done is not done again."""

    command: ClassVar[str] = "pipeline"
    positionals: ClassVar[dict[str, str]] = {"FILE": "file"}
    examples: ClassVar[tuple[str, ...]] = ("story.yaml", "story.yaml --dry-run")

    file: str = ""
    """YAML of named steps."""

    dry_run: bool = False
    """Print the plan, and run nothing."""
