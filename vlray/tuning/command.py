"""What ``vlray tune`` does around it: the run's folder, the last words, the status."""

from __future__ import annotations

from vlray.config.tune import TuneConfig


def run(config: TuneConfig) -> None:
    """Run it; a mistake of the user's ends with status 2."""
    raise NotImplementedError(config)
