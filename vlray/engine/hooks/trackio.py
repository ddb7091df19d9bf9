"""Metrics for Trackio, the local-first tracker of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlray.engine.hooks.protocol import Hook
from vlray.engine.training import Training


class Trackio(Hook):
    """Logs losses and evaluations to the Trackio project named after vlray's project."""

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, training: Training) -> None:
        """Open the run of this run folder, or resume it.

        Raises:
            ImportError: Trackio is not installed.
        """
        if training.group.rank:
            return
        try:
            import trackio  # type: ignore[import-not-found,unused-ignore] # optional
        except ImportError as error:
            raise ImportError("the hook trackio needs the package; pip install trackio") from error
        config = training.config
        self._run = trackio.init(
            project=config.project,
            name=training.run_folder.name,
            resume="allow",
            config=config.resolved(),
        )

    def after_step(self, training: Training, values: Mapping[str, float]) -> None:
        """Log the losses every ``training.log_every`` steps."""
        if training.progress.step % training.config.training.log_every == 0:
            self._log("train", training, values)

    def after_evaluation(self, training: Training, metrics: dict[str, float]) -> None:
        """Log the metrics."""
        self._log("valid", training, metrics)

    def end(self, training: Training) -> None:
        """Close the run, after its last metrics were written."""
        if self._run is not None:
            self._run.finish()

    def _log(self, kind: str, training: Training, values: Mapping[str, float]) -> None:
        if self._run is not None:
            named = {f"{kind}/{name}": value for name, value in values.items()}
            self._run.log(named, step=training.progress.step)
