"""What a trial does, as the search sees it, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vlray.tuning.tuned import Setting


@dataclass(frozen=True)
class Resources:
    """What each trial takes, and how many run at the same time."""

    cpus: float
    gpus: float
    concurrent: int


class Report(Protocol):
    """Tells the search of an evaluation; it may end the trial here."""

    def __call__(self, figures: Mapping[str, float], /) -> None:
        """Tell its figures."""


class Work(Protocol):
    """What a trial does; it is sent to the trials' processes."""

    @property
    def reuse(self) -> bool:
        """Whether a process may do one trial after the other, which saves its start."""

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Give the figures of a setting, having told those of each evaluation before."""
