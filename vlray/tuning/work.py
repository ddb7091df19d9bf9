"""The function that a trial runs, and the resources that a trial takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vlray.tuning.tuned import Setting


@dataclass(frozen=True)
class Resources:
    """Resources of a trial, and the number of concurrent trials."""

    cpus: float
    """CPUs per trial."""

    gpus: float
    """GPUs per trial; trials with a fraction share a GPU."""

    concurrent: int
    """Maximum number of concurrent trials."""


class Report(Protocol):
    """Reports the metrics of an evaluation to the search, which may then end the trial."""

    def __call__(self, metrics: Mapping[str, float], /) -> None:
        """Report metrics, keyed by name."""


class TrialFunction(Protocol):
    """Function that a trial runs. It is pickled and sent to the trials' processes."""

    @property
    def reuse(self) -> bool:
        """Whether a process may run several trials one after another, which saves startup time."""

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Run the trial of a setting and return its metrics.

        Args:
            setting: Values of the searched options.
            report: Called with the metrics of each evaluation during the trial.
        """
