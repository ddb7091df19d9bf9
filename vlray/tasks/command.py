"""The datasets command: list, show, check, add."""

from __future__ import annotations

from vlray.config.datasets import DatasetsConfig


def run(config: DatasetsConfig) -> None:
    """Do what was asked for; a mistake of the user's ends with status 2."""
    raise NotImplementedError(config.action)
