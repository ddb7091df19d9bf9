"""An output becomes a file of other tools."""

from __future__ import annotations

from dataclasses import dataclass

from vlray.config.convert import ConvertConfig


@dataclass
class ExportResult:
    """What one run did."""

    def lines(self) -> list[str]:
        """Sum it up for the log."""
        return []


def export_output(config: ConvertConfig) -> ExportResult:
    """Export."""
    raise ValueError("not yet")
