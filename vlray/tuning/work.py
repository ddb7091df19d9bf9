"""The function of a trial, and the resources that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vlray.tuning.tuned import Setting


@dataclass(frozen=True)
class Resources:
    """Resources of a trial, and the number of concurrent trials."""

    cpus: float
    """CPUs of each trial."""

    gpus: float
    """GPUs of each trial; a fraction shares one."""

    concurrent: int
    """Maximum number of trials at the same time."""


class Report(Protocol):
    """Reports the metrics of an evaluation to the search, which may end the trial here."""

    def __call__(self, metrics: Mapping[str, float], /) -> None:
        """Report the metrics by name."""


class TrialFunction(Protocol):
    """Function of a trial. It is pickled and sent to the trials' processes."""

    @property
    def reuse(self) -> bool:
        """Whether a process may run several trials in sequence, which saves start-up time."""

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Run a setting and return its metrics; report those of each evaluation on the way."""
