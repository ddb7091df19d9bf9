"""Pictures of a search: the objective against each option, and recall against boxes."""

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
"""Inches of a panel; 100 dots each."""
LOG_FROM = 50.0
"""Values that differ by this factor or more are drawn on a logarithmic scale."""

TRIAL, BEST, DEFAULTS = "tab:blue", "tab:orange", "tab:gray"


def draw(result: Result, folder: Path) -> list[Path]:
    """Write the pictures that the figures are there for; each appears whole or not at all."""
    name = result.objective.name
    kept = [trial for trial in result.trials if trial.state != "failed"]
    shown = [trial for trial in kept if not math.isnan(trial.value(name))]
    searched = [trial for trial in shown if trial.setting]
    if not searched:
        return []
    written = [folder / OBJECTIVE]
    _save(_objective(result, searched), written[0])
    both = [t for t in shown if not math.isnan(t.value(RECALL)) and not math.isnan(t.value(BOXES))]
    if both:
        written.append(folder / PARETO)
        _save(_pareto(result, both), written[1])
    return written


def _figure(columns: int, rows: int, title: str) -> Figure:
    # Not pyplot: it would keep the figure, and ask for a window where there is a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * ROW[0], rows * ROW[1]), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    fs, place = files.resolve(path)
    files.write_atomic(fs, place, buffer.getvalue())


def _objective(result: Result, trials: Sequence[Trial]) -> Figure:
    """Draw a panel for each searched option."""
    count = len(result.names)
    columns = min(count, 2)
    name = result.objective.name
    best = "highest" if result.objective.mode == "max" else "lowest"
    figure = _figure(columns, math.ceil(count / columns), f"{name}, {best} is best")
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
    places = _places(axes, values)
    figures = [trial.figures[name] for trial in trials]
    axes.scatter(places, figures, s=18, alpha=0.5, color=TRIAL, label="trials")
    # The best at each value: what the option can do where all others are right.
    tops: dict[float, float] = {}
    for place, figure in zip(places, figures, strict=True):
        if place not in tops or result.objective.beats(figure, tops[place]):
            tops[place] = figure
    if 1 < len(tops) <= len(trials) / 2:
        axes.plot(sorted(tops), [tops[x] for x in sorted(tops)], color=TRIAL, label="best at each")
    if result.defaults:
        value = result.defaults.figures[name]
        axes.axhline(value, color=DEFAULTS, linestyle="--", label="without a search")
    if (best := result.best) and option in best.setting:
        place = next(p for p, trial in zip(places, trials, strict=True) if trial.id == best.id)
        axes.scatter([place], [best.figures[name]], s=70, marker="*", color=BEST, label="best")


def _places(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Say where values are on the axis; what is no number stands side by side."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        if min(values) > 0 and max(values) / min(values) >= LOG_FROM:
            axes.set_xscale("log")
        return [float(value) for value in values]
    names = list(dict.fromkeys(map(str, values)))
    axes.set_xticks(range(len(names)), [name[-24:] for name in names])
    return [float(names.index(str(value))) for value in values]


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Give the points that no other has both fewer boxes and more recall than, by their boxes.

    Args:
        points: Boxes and recall of each.
    """
    found: list[tuple[float, float]] = []
    for boxes, recall in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not found or recall > found[-1][1]:
            found.append((boxes, recall))
    return found


def _pareto(result: Result, trials: Sequence[Trial]) -> Figure:
    figure = _figure(1, 1, "recall of all regions at IoU 0.5 against their number")
    axes = figure.add_subplot()
    points = [(trial.figures[BOXES], trial.figures[RECALL]) for trial in trials]
    boxes, recall = zip(*points, strict=True)
    axes.scatter(boxes, recall, s=18, alpha=0.5, color=TRIAL, label="trials")
    axes.plot(*zip(*front(points), strict=True), color=TRIAL, label="none has more with fewer")
    for trial, color, label in (
        (result.defaults, DEFAULTS, "without a search"),
        (result.best, BEST, f"best {result.objective.name}"),
    ):
        if trial is not None and trial in trials:
            x, y = [trial.figures[BOXES]], [trial.figures[RECALL]]
            axes.scatter(x, y, s=90, marker="*", color=color, label=label, zorder=3)
    axes.set_xlabel("boxes of an image, mean")
    axes.set_ylabel("recall")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
