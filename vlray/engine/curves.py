"""Figure with the curves of a run: losses, evaluation metric, learning rate and speed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlray.runs.metrics import Record, metrics_of, of_kind
from vlray.storage import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 12, 8
"""Size in inches; 1200 x 800 pixels at 100 dots per inch."""
SMOOTHED_OVER = 40
"""Smoothed curves are running means over a window of 1/40 of the points."""
LOG_FROM = 50.0
"""Ratio of the largest to the smallest loss from which the scale is logarithmic."""

TRAIN, VALID = "tab:blue", "tab:orange"

Curve = npt.NDArray[np.float64]


def draw(path: Path, history: Sequence[Record], title: str) -> None:
    """Draw the curves and write them atomically as a PNG with 1200 x 800 pixels.

    Args:
        path: Path of the PNG file.
        history: Logged records; non-finite values are not drawn.
        title: Title of the figure.
    """
    # Without pyplot, which keeps every figure alive, and opens a window if there is a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, valid = of_kind("train", history), of_kind("valid", history)
    figure = Figure(figsize=SIZE, dpi=100)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = [_draw_loss]
    panels += [_draw_parts] * any(map(_parts, (train, valid)))
    panels += [_draw_metric] * bool(_headline(valid))
    panels += [_draw_lr, _draw_speed]
    rows = math.ceil(len(panels) / 2)
    # Fixed margins: matplotlib's automatic layout takes longer than drawing the curves.
    grid = figure.add_gridspec(
        rows, 2, left=0.06, right=0.98, top=0.9, bottom=0.07, wspace=0.13, hspace=0.15 * rows
    )
    for number, panel in enumerate(panels):
        row, column = divmod(number, 2)
        # An odd number of panels leaves one for the last row, which then spans both columns.
        alone = number == len(panels) - 1 and column == 0
        axes = figure.add_subplot(grid[row, :] if alone else grid[row, column])
        panel(axes, train, valid)
        if row == rows - 1:
            axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_atomic(*files.resolve(path), buffer.getvalue())


def smoothed(values: Curve) -> Curve:
    """Return the running mean of the last ``len(values) / SMOOTHED_OVER`` values at each point."""
    span = max(1, len(values) // SMOOTHED_OVER)
    # Differences of cumulative sums take linear time, however long the window is.
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - span, 0)
    averages: Curve = (sums[ends] - sums[begins]) / (ends - begins)
    return averages


def _draw_loss(axes: Axes, train: Sequence[Record], valid: Sequence[Record]) -> None:
    steps, losses = _series(train, "loss")
    _line(axes, steps, losses, color=TRAIN, alpha=0.3)
    _line(axes, steps, smoothed(losses), color=TRAIN, label="training")
    evaluated = _series(valid, "loss")
    _line(axes, *evaluated, color=VALID, label="evaluation", always_marked=True)
    _scale(axes, [losses, evaluated[1]])
    axes.set_title("loss")


def _draw_parts(axes: Axes, train: Sequence[Record], valid: Sequence[Record]) -> None:
    curves = []
    for number, name in enumerate(sorted(_parts(train) | _parts(valid))):
        color, short = f"C{number}", name.removeprefix("loss/")
        steps, losses = _series(train, name)
        _line(axes, steps, smoothed(losses), color=color, label=short)
        evaluated = _series(valid, name)
        # If there is a training curve, it already has the label.
        label = short if not len(steps) else None
        _line(axes, *evaluated, color=color, label=label, always_marked=True, linestyle=":")
        curves += [losses, evaluated[1]]
    _scale(axes, curves)
    axes.set_title("parts of the loss (dotted: evaluation)")


def _draw_metric(axes: Axes, train: Sequence[Record], valid: Sequence[Record]) -> None:
    name = _headline(valid)
    _line(axes, *_series(valid, name), color=VALID, always_marked=True)
    # Each evaluation that was the best so far is marked, so the last mark is the best of all.
    best = next((record for record in reversed(valid) if record.get("best")), None)
    if best is not None and _finite(best.get(name)):
        label = f"best: {best[name]:.4g} at step {best['step']:,}"
        axes.plot(best["step"], best[name], "*", color="tab:red", markersize=14, label=label)
    axes.set_title(f"evaluation: {name}")


def _draw_lr(axes: Axes, train: Sequence[Record], valid: Sequence[Record]) -> None:
    _line(axes, *_series(train, "lr"), color=TRAIN)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_title("learning rate")


def _draw_speed(axes: Axes, train: Sequence[Record], valid: Sequence[Record]) -> None:
    steps, speeds = _series(train, "examples_per_s")
    _line(axes, steps, speeds, color=TRAIN)
    if len(speeds) and speeds.max() > 0:
        axes.set_ylim(0, 1.1 * speeds.max())
    waited = _series(train, "waited")[1]
    share = f"; {np.median(waited):.1%} of the time waiting for data" if len(waited) else ""
    axes.set_title(f"examples/s{share}")


def _line(
    axes: Axes,
    steps: Curve,
    values: Curve,
    *,
    color: str,
    label: str | None = None,
    alpha: float = 1.0,
    linestyle: str = "-",
    always_marked: bool = False,
) -> None:
    """Draw a curve; a single point gets a marker, because a line needs two points."""
    if len(steps):
        marker = "o" if always_marked or len(steps) == 1 else ""
        axes.plot(
            steps, values, color=color, label=label, alpha=alpha, linestyle=linestyle,
            marker=marker, markersize=4,
        )  # fmt: skip


def _scale(axes: Axes, curves: Iterable[Curve]) -> None:
    values = np.concatenate([*curves, []])  # np.concatenate refuses an empty list
    if len(values) and values.min() > 0 and values.max() / values.min() >= LOG_FROM:
        axes.set_yscale("log")


def _series(records: Sequence[Record], name: str) -> tuple[Curve, Curve]:
    """Return the steps at which a metric is finite, and its values there."""
    points = [(record["step"], record[name]) for record in records if _finite(record.get(name))]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _parts(records: Sequence[Record]) -> set[str]:
    return {name for record in records for name in record if name.startswith("loss/")}


def _headline(valid: Sequence[Record]) -> str:
    """Return the name of the metric that selects the best checkpoint; empty if it is the loss."""
    name = next((name for record in valid for name in metrics_of(record)), "")
    return "" if name == "loss" else name
