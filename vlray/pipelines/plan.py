"""What is to be done: the steps that have not finished, or whose settings or inputs changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlray.pipelines.inputs import ABSENT, fingerprint, inputs_of
from vlray.pipelines.state import Record
from vlray.pipelines.steps import Step, normal
from vlray.settings.options import flatten
from vlray.storage import files
from vlray.version import __version__

NO_MATTER = ("env.runs_dir", "env.log_level", "env.log_format", "cluster.", "watch.")
"""Settings that change nothing of what a step makes: where it runs, and how it is watched."""

MADE_ANEW = ("train", "tune", "convert")
"""Commands that would take their old output for finished, or refuse it, after their inputs
changed."""

RESUMED = ("extract", *MADE_ANEW)
"""Commands that go on from what is in their output."""

SHOWN = 3


@dataclass(frozen=True)
class Plan:
    """Whether a step is run, and why.

    Attributes:
        step: Which.
        reason: Why it is to be run; empty: it is done.
        settings: What is kept of its settings.
        inputs: Fingerprints of what it reads.
        is_begun_anew: Whether what is in its output is set aside before.
        has_other_settings: Whether it was run before with others.
        is_left_out: Whether it is to be run, but is not among those that were asked for.
    """

    step: Step
    reason: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    is_begun_anew: bool = False
    has_other_settings: bool = False
    is_left_out: bool = False

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.reason


def make_plan(
    step: Step, record: Record | None, *, redo: bool = False, waits_for: Sequence[str] = ()
) -> Plan:
    """Say whether a step is to be run.

    Args:
        step: Which.
        record: The last time that it was run; None: never.
        redo: Whether it is wanted anew in any case.
        waits_for: Earlier steps that it reads from and that will run first, in a plan made ahead.
    """
    settings, inputs = settings_of(step), inputs_of(step)
    is_there = bool(step.output) and fingerprint(step.output, deep=False) != ABSENT
    if record is None:
        reason = "to be done again (--redo)" if redo else "not run yet"
        return Plan(step, reason, settings, inputs, redo and is_there and step.command in RESUMED)
    other_settings = _changes(record.settings, settings)
    other_inputs = _other_inputs(record, inputs, is_same=not other_settings)
    reasons = []
    if redo:
        reasons.append("to be done again (--redo)")
    if record.status != "finished":
        words = {"failed": "it failed", "stopped": "it was stopped"}
        reasons.append(words.get(record.status, "it was interrupted"))
    reasons += other_settings
    reasons += [f"{place} {how}" for place, how in other_inputs.items()]
    if record.version != __version__:
        reasons.append(f"vlray was {record.version}, is {__version__}")
    if step.output and not is_there and record.status == "finished":
        reasons.append(f"{step.output} is gone")
    if waits_for and not reasons:
        reasons.append(f"it reads from {' and '.join(waits_for)}, to be run first")
    more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return Plan(
        step,
        "; ".join(reasons[:SHOWN]) + more,
        settings,
        inputs,
        is_begun_anew=is_there
        and (
            (redo and step.command in RESUMED) or (bool(other_inputs) and _is_stale(step, record))
        ),
        has_other_settings=bool(other_settings),
    )


def _is_stale(step: Step, record: Record) -> bool:
    return step.command in MADE_ANEW and normal(record.output) == normal(step.output)


def plan_ahead(
    steps: Sequence[Step],
    records: Mapping[str, Record],
    *,
    only: Collection[str] = (),
    redo: Collection[str] = (),
) -> list[Plan]:
    """Make the plan of all steps before any of them runs."""
    plans: dict[str, Plan] = {}
    for step in steps:
        first = [name for name in step.after if not plans[name].is_done]
        plan = make_plan(step, records.get(step.name), redo=step.name in redo, waits_for=first)
        if only and step.name not in only and not plan.is_done:
            plan = Plan(step, plan.reason, plan.settings, plan.inputs, is_left_out=True)
        plans[step.name] = plan
    return list(plans.values())


def settings_of(step: Step) -> dict[str, Any]:
    """Give the settings that matter for what a step makes, by dotted names."""
    changed = {".".join(path): value for path, value in flatten(step.config.changed()).items()}
    return {name: value for name, value in changed.items() if not name.startswith(NO_MATTER)}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings are others; what is not there is the default."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} was {_word(before, name)}, is {_word(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _word(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "the default"
    value = values[name]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _other_inputs(record: Record, now: Mapping[str, str], is_same: bool) -> dict[str, str]:
    """Say which inputs are others; what appeared since then may be the step's own work.

    Args:
        record: The last time that the step was run.
        now: Fingerprints of what is there of what its settings name now.
        is_same: Whether these are the settings that it was run with.
    """
    before = record.inputs
    changed = {place: "has changed" for place in before if now.get(place, ABSENT) != before[place]}
    gone = {place: "is gone" for place in changed if place not in now}
    return changed | gone if is_same else {p: how for p, how in changed.items() if p not in gone}


def check_local(plan: Plan) -> None:
    """Refuse to set aside what is in object storage, where that would mean to copy all of it.

    Raises:
        ValueError: The step's output is there.
    """
    if plan.is_begun_anew and files.is_uri(plan.step.output):
        raise ValueError(
            f"step {plan.step.name} would begin anew ({plan.reason}), but what it wrote to "
            f"{plan.step.output} cannot be set aside there; give the step another output, or "
            "remove the old one"
        )
