"""The HTML page of a pipeline: result, metrics, curves and files of every step."""

from __future__ import annotations

import base64
import datetime
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vlray.config.pipeline import PipelineConfig
from vlray.pages.render import Total, render_page
from vlray.pipelines.metrics import METRICS, metric_rows
from vlray.pipelines.paths import normal
from vlray.pipelines.process import command_line
from vlray.pipelines.run import Outcome
from vlray.pipelines.state import Record, State
from vlray.pipelines.steps import Step
from vlray.pipelines.table import duration, setting_rows
from vlray.runs.run import Run
from vlray.settings.secrets import redact
from vlray.storage import files
from vlray.version import __version__

NAME = "index.html"
CURVES = "curves.png"

LINKED = {
    "index.html": "page",
    "compare.html": "page",
    METRICS: "metrics",
    "predictions.json": "predictions",
    "submission.json": "submission",
    "submission.csv": "submission",
    "best.yaml": "best settings",
    "trials.parquet": "trials",
    "labels.json": "labels",
}
"""Output files that the page links to, and the text of each link."""


def write_page(
    config: PipelineConfig, steps: Sequence[Step], folder: Path, state: State, outcome: Outcome
) -> Path:
    """Write the page of a pipeline.

    Args:
        config: Settings of the pipeline.
        steps: All steps.
        folder: Folder of the pipeline.
        state: Records of all steps, from this run and earlier ones.
        outcome: Outcome of this run.

    Returns:
        Path of the page.

    Raises:
        OSError: The page cannot be written.
    """
    records = [record for step in steps if (record := state.records.get(step.name))]
    # A step that finished in an earlier run is done, too.
    ended = sum(outcome.states[step.name] in ("finished", "already done") for step in steps)
    names = ", ".join(map(str, config.config))
    today = datetime.date.today().isoformat()
    name = folder.resolve().name
    page = render_page(
        "pipelines/page.html",
        title=f"Pipeline {name}",
        heading=name,
        subtitle=f"{names}, project {config.project}, vlray {__version__}, {today}",
        totals=[
            Total("steps", f"{ended} of {len(steps)} done"),
            Total("total time", duration(sum(record.seconds for record in records))),
        ],
        steps=[_step(step, folder, state.records.get(step.name), outcome) for step in steps],
    )
    path = folder / NAME
    files.write_atomic(*files.resolve(path), page)
    return path


def _step(step: Step, folder: Path, record: Record | None, outcome: Outcome) -> dict[str, object]:
    run = Run(Path(record.run)) if record and record.run else None
    why = outcome.why.get(step.name, "")
    reasons = [f"reason: {why}"] * bool(why)
    reasons += [f"depends on {', '.join(step.after)}"] * bool(step.after)
    return {
        "name": step.name,
        "command": step.command,
        "state": outcome.states[step.name],
        "duration": duration(record.seconds) if record else "",
        "started": f"{datetime.datetime.fromtimestamp(record.started):%Y-%m-%d %H:%M:%S}"
        if record
        else "",
        "result": record.result if record else "",
        "why": "; ".join(reasons),
        "output": redact(step.output),
        "links": _links(step, run, folder),
        "metrics": metric_rows(step),
        "curves": _picture(run.folder / CURVES) if run else "",
        "settings": setting_rows(step),
        "line": f"python {shlex.join(command_line(step, folder))}",
    }


def _links(step: Step, run: Run | None, folder: Path) -> list[list[str]]:
    """List the links of a step, relative to the page, so that the whole folder can be moved."""
    links: list[tuple[str, Path]] = []
    if step.output and not files.is_uri(step.output):
        output = Path(normal(step.output))
        if output.exists():
            links.append((step.output, output))
        links += [
            (text, output / name) for name, text in LINKED.items() if (output / name).is_file()
        ]
    if run is not None and run.folder.is_dir():
        links.append((run.name, run.folder))
        if run.log is not None:
            links.append(("log", run.log))
    start = folder.resolve()
    # Run folders lie outside the pipeline's folder, where Path.relative_to fails.
    return [[name, Path(os.path.relpath(path.resolve(), start)).as_posix()] for name, path in links]


def _picture(path: Path) -> str:
    """Read a PNG as a data URI; empty if there is no such file."""
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return ""
