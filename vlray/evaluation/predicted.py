"""Predictions and losses of a dataset, and their union over the workers that computed them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from vlray.tasks.predictions import Predictions


@dataclass(frozen=True)
class Tally:
    """A mean stored as sum and count, so that the results of several workers can be added.

    Attributes:
        sum: Sum of the values.
        count: Number of values.
    """

    sum: float = 0
    count: float = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.sum + other.sum, self.count + other.count)

    @property
    def mean(self) -> float:
        """The mean; NaN if nothing was counted."""
        return self.sum / self.count if self.count else math.nan


@dataclass(frozen=True)
class Predicted:
    """Predictions and losses for some examples. Instances can be pickled.

    Attributes:
        predictions: Predictions keyed by example_id, as `vlray.tasks.metrics.score` expects them:
            the name of a label, the index of a choice, or the ranked boxes of each phrase (for box
            accuracy: one box). Empty for objectives without predictions (pretraining, matching).
        losses: Losses of the model, keyed by name.
        accuracy: Mean score of the best label, choice or match against the targets in the batches:
            the soft score of an answer, or 1 or 0. The count is 0 if nothing was compared: no
            scores, no targets, or scores of phrases.
        num_examples: Number of examples.
        undefined: Ids of the examples for which the model computed NaN.
    """

    predictions: Predictions = field(default_factory=dict, repr=False)
    losses: dict[str, Tally] = field(default_factory=dict)
    accuracy: Tally = field(default_factory=Tally)
    num_examples: int = 0
    undefined: tuple[str, ...] = ()

    @property
    def means(self) -> dict[str, float]:
        """Mean ``loss``, its parts as ``loss/NAME`` if there are several, and ``accuracy`` in %."""
        parts = {name: tally.mean for name, tally in self.losses.items() if tally.count}
        values = {"loss": sum(parts.values())} if parts else {}
        if len(parts) > 1:
            values |= {f"loss/{name}": value for name, value in parts.items()}
        if self.accuracy.count:
            values["accuracy"] = 100 * self.accuracy.mean
        return values


def merge(shares: Sequence[Predicted]) -> Predicted:
    """Merge the predictions of several workers."""
    predictions: dict[str, object] = {}
    losses: dict[str, Tally] = {}
    for share in shares:
        predictions |= share.predictions
        for name, tally in share.losses.items():
            losses[name] = losses.get(name, Tally()) + tally
    accuracy = sum((share.accuracy for share in shares), Tally())
    count = sum(share.num_examples for share in shares)
    undefined = tuple(name for share in shares for name in share.undefined)
    return Predicted(predictions, losses, accuracy, count, undefined)
