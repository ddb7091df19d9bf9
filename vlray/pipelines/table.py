"""Tables of a pipeline's plan and results."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from vlray.pipelines.plan import Plan
from vlray.pipelines.process import command_line
from vlray.pipelines.state import Record
from vlray.pipelines.steps import Step
from vlray.runs.folder import to_yaml
from vlray.settings.options import flatten
from vlray.settings.secrets import redact, redact_all
from vlray.settings.text_table import align


def plan_lines(plans: Sequence[Plan], folder: Path) -> Iterator[str]:
    """Describe each step: whether it runs and why, its command and its settings."""
    lines = align([(plan.step.name, plan.step.command, plan_text(plan)) for plan in plans])
    for plan, line in zip(plans, lines, strict=True):
        yield line
        if plan.is_done or plan.is_left_out:
            continue
        yield f"    python {shlex.join(command_line(plan.step, folder))}"
        if plan.restarts:
            yield f"    the old {redact(plan.step.output)} is renamed first"
        # Only what differs from the defaults: all settings would fill a page for each step.
        settings = to_yaml(redact_all(plan.step.config.changed()))
        yield textwrap.indent(settings.rstrip(), "      ")


def plan_text(plan: Plan) -> str:
    """Describe whether a step runs, and why."""
    if plan.is_done:
        return "done"
    return f"{'left out' if plan.is_left_out else 'to do'}: {plan.reason}"


def result_lines(
    steps: Sequence[Step], states: Mapping[str, str], records: Mapping[str, Record]
) -> list[str]:
    """Format the state, duration and result of every step as a table."""
    rows = [("step", "command", "state", "time", "result")]
    for step in steps:
        record = records.get(step.name)
        cells = ("", "") if record is None else (duration(record.seconds), record.result)
        rows.append((step.name, step.command, states[step.name], *cells))
    return align(rows)


def duration(seconds: float) -> str:
    """Format a duration as ``0:01:23``."""
    return str(timedelta(seconds=round(seconds)))


def setting_rows(step: Step) -> list[list[str]]:
    """List the settings that differ from the defaults, each with its dotted name."""
    return [
        [".".join(path), ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for path, value in flatten(redact_all(step.config.changed())).items()
    ]
