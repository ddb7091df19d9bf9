"""Evaluation during training, distributed over the workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from torch import nn

from vlray.config.training import Precision
from vlray.engine.group import Group
from vlray.evaluation.predict import headline, measure, predict
from vlray.evaluation.predicted import merge
from vlray.loader.loader import RegionLoader
from vlray.models.protocol import VisionLanguageModel


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one evaluation.

    Attributes:
        values: Metrics by name. The first one, the headline metric, selects the best checkpoint.
        is_higher_better: Whether a higher value of the headline metric is better.
    """

    values: dict[str, float]
    is_higher_better: bool

    def beats(self, best: dict[str, float]) -> bool:
        """Return whether this evaluation is better than ``best`` by the headline metric.

        The first evaluation always counts as better; after that, NaN never does.

        Args:
            best: Metrics of the best evaluation so far; empty if there is none.
        """
        value = next(iter(self.values.values()))
        if math.isnan(value) or not best:
            return not best
        best_value = next(iter(best.values()))
        return value > best_value if self.is_higher_better else value < best_value


def evaluate(
    model: nn.Module, loader: RegionLoader, group: Group, precision: Precision
) -> Evaluation:
    """Predict every example once, and compute the metrics from the predictions of all workers."""
    # Start from epoch 0 each time, so that all evaluations use the same batches in the same order.
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
        if merged.undefined:  # the metric is that of predictions that the model did not make
            value = math.nan
        others = metrics.values if metrics else {}
        # The headline metric goes first: that position selects the best checkpoint.
        values = {name: value} | others | merged.means | {name: value}
        measured = Evaluation(values, is_higher_better)
    # The other workers need the result too: all of them must decide alike when to stop early.
    evaluation = group.gather(measured)[0]
    assert evaluation is not None  # rank 0 measured it
    return evaluation
