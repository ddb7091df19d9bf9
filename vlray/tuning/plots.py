"""Plots of a search: the objective against each option, and recall against number of boxes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlray.storage import files
from vlray.tuning.ledger import Trial
from vlray.tuning.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OBJECTIVE = "objective.png"
PARETO = "pareto.png"
RECALL, BOXES = "recall", "boxes"
ROW = 6, 4
"""Width and height of a panel in inches, at 100 dots per inch."""
LOG_FROM = 50.0
"""Ratio of an option's largest to smallest value from which the scale is logarithmic."""

TRIAL, BEST, DEFAULTS = "tab:blue", "tab:orange", "tab:gray"


def draw(result: Result, folder: Path) -> list[Path]:
    """Write the plots for which the trials have metrics, and return the paths of the plots."""
    name = result.objective.name
    ended = [trial for trial in result.trials if trial.state != "failed"]
    measured = [trial for trial in ended if not math.isnan(trial.value(name))]
    searched = [trial for trial in measured if trial.setting]
    if not searched:
        return []
    written = [folder / OBJECTIVE]
    _save(_objective(result, searched), written[0])
    with_recall = [
        trial
        for trial in measured
        if not any(math.isnan(trial.value(metric)) for metric in (RECALL, BOXES))
    ]
    if with_recall:
        written.append(folder / PARETO)
        _save(_pareto(result, with_recall), written[1])
    return written


def _figure(columns: int, rows: int, title: str) -> Figure:
    # Without pyplot, which keeps every figure alive, and opens a window if there is a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * ROW[0], rows * ROW[1]), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_atomic(*files.resolve(path), buffer.getvalue())


def _objective(result: Result, trials: Sequence[Trial]) -> Figure:
    """Draw the objective against each searched option, one panel per option."""
    count = len(result.names)
    columns = min(count, 2)
    name = result.objective.name
    best = "highest" if result.objective.mode == "max" else "lowest"
    figure = _figure(columns, math.ceil(count / columns), f"{name} ({best} is best)")
    for number, option in enumerate(result.names, start=1):
        axes = figure.add_subplot(math.ceil(count / columns), columns, number)
        _panel(axes, result, trials, option)
        axes.set_xlabel(option)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        if number == 1:
            axes.legend(fontsize="small")
    return figure


def _panel(axes: Axes, result: Result, trials: Sequence[Trial], option: str) -> None:
    name = result.objective.name
    trials = [trial for trial in trials if option in trial.setting]
    values = [trial.setting[option] for trial in trials]
    positions = _positions(axes, values)
    metrics = [trial.metrics[name] for trial in trials]
    axes.scatter(positions, metrics, s=18, alpha=0.5, color=TRIAL, label="trials")
    # The best result at each value shows the option's effect when all others are well chosen.
    best_at: dict[float, float] = {}
    for x, metric in zip(positions, metrics, strict=True):
        if x not in best_at or result.objective.beats(metric, best_at[x]):
            best_at[x] = metric
    # Draw a line only if values have at least two trials on average; it would otherwise join
    # almost all points.
    if 1 < len(best_at) <= len(trials) / 2:
        line = sorted(best_at.items())
        axes.plot(*zip(*line, strict=True), color=TRIAL, label="best at each value")
    if result.defaults:
        value = result.defaults.metrics[name]
        axes.axhline(value, color=DEFAULTS, linestyle="--", label="default settings")
    if (best := result.best) and option in best.setting:
        x = next(x for x, trial in zip(positions, trials, strict=True) if trial.id == best.id)
        axes.scatter([x], [best.metrics[name]], s=70, marker="*", color=BEST, label="best")


def _positions(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Return the positions of values on the x axis, where categorical values are spaced evenly."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
            axes.set_xscale("log")
        return [float(value) for value in values]
    names = list(dict.fromkeys(map(str, values)))
    # Long values are mostly paths, which differ at the end.
    axes.set_xticks(range(len(names)), [name[-24:] for name in names])
    return [float(names.index(str(value))) for value in values]


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front, sorted by number of boxes.

    A point is on the front if no other point has at most as many boxes and at least that recall.

    Args:
        points: Number of boxes and recall of each trial.
    """
    pareto: list[tuple[float, float]] = []
    # At the same number of boxes, the highest recall comes first and hides the others.
    for boxes, recall in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not pareto or recall > pareto[-1][1]:
            pareto.append((boxes, recall))
    return pareto


def _pareto(result: Result, trials: Sequence[Trial]) -> Figure:
    figure = _figure(1, 1, "recall at IoU 0.5 against the number of regions")
    axes = figure.add_subplot()
    points = [(trial.metrics[BOXES], trial.metrics[RECALL]) for trial in trials]
    boxes, recall = zip(*points, strict=True)
    axes.scatter(boxes, recall, s=18, alpha=0.5, color=TRIAL, label="trials")
    axes.plot(*zip(*front(points), strict=True), color=TRIAL, label="Pareto front")
    for trial, color, label in (
        (result.defaults, DEFAULTS, "default settings"),
        (result.best, BEST, f"best {result.objective.name}"),
    ):
        if trial is not None and trial in trials:
            x, y = [trial.metrics[BOXES]], [trial.metrics[RECALL]]
            axes.scatter(x, y, s=90, marker="*", color=color, label=label, zorder=3)
    axes.set_xlabel("mean number of regions per image")
    axes.set_ylabel("recall")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
