"""One evaluation while it trains, shared among the workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from torch import nn

from vlray.config.training import Precision
from vlray.engine.group import Group
from vlray.evaluation.predict import headline, measure, merge, predict
from vlray.loader.loader import RegionLoader
from vlray.models.protocol import VisionLanguageModel


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave.

    Attributes:
        values: Every figure by name; the headline is the first.
        is_higher_better: Of the headline.
    """

    values: dict[str, float]
    is_higher_better: bool

    def beats(self, best: dict[str, float]) -> bool:
        """Tell whether it is better than the values of the best so far; empty: there was none."""
        value = next(iter(self.values.values()))
        if math.isnan(value) or not best:
            return not best
        before = next(iter(best.values()))
        return value > before if self.is_higher_better else value < before


def evaluate(
    model: nn.Module, loader: RegionLoader, group: Group, precision: Precision
) -> Evaluated:
    """Predict every example once, each worker its share, and measure them together."""
    # The same batches every time, whatever the number of evaluations before.
    loader.set_epoch(0)
    share = predict(
        cast(VisionLanguageModel, model),
        loader,
        loader.dataset,
        device=group.device,
        precision=precision,
    )
    shares = group.gather(share)
    measured = None
    if group.rank == 0:
        merged = merge(shares)
        metrics = measure(merged, loader.dataset)
        name, value, is_higher_better = headline(metrics, merged.means)
        others = metrics.values if metrics else {}
        measured = Evaluated({name: value} | others | merged.means, is_higher_better)
    found = group.gather(measured)[0]
    assert found is not None
    return found
