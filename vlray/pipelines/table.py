"""The plan of a pipeline, and what came out, as tables."""

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
from vlray.settings.text_table import align


def plan_lines(plans: Sequence[Plan], folder: Path) -> Iterator[str]:
    """Describe each step: whether it runs, why, by which command and with which settings."""
    lines = align([(plan.step.name, plan.step.command, says(plan)) for plan in plans])
    for plan, line in zip(plans, lines, strict=True):
        yield line
        if plan.is_done or plan.is_left_out:
            continue
        yield f"    python {shlex.join(command_line(plan.step, folder))}"
        if plan.is_begun_anew:
            yield f"    what is in {plan.step.output} is set aside first"
        yield textwrap.indent(to_yaml(plan.step.config.changed()).rstrip(), "      ")


def says(plan: Plan) -> str:
    """Describe whether a step is to be run."""
    if plan.is_done:
        return "done"
    return f"{'left out' if plan.is_left_out else 'to do'}: {plan.reason}"


def result_lines(
    steps: Sequence[Step], states: Mapping[str, str], records: Mapping[str, Record]
) -> list[str]:
    """Make a table of what came out of every step."""
    rows = [("step", "command", "state", "took", "result")]
    for step in steps:
        record = records.get(step.name)
        known = ("", "") if record is None else (took(record.seconds), record.result)
        rows.append((step.name, step.command, states[step.name], *known))
    return align(rows)


def took(seconds: float) -> str:
    """Write a duration as ``0:01:23``."""
    return str(timedelta(seconds=round(seconds)))


def setting_rows(step: Step) -> list[list[str]]:
    """List what differs from the defaults, by dotted names."""
    return [
        [".".join(path), ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for path, value in flatten(step.config.changed()).items()
    ]
