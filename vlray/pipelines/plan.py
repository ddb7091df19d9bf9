"""Decide which steps to run: those that are unfinished or have changed settings or inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vlray.pipelines.inputs import ABSENT, fingerprint, inputs_of
from vlray.pipelines.paths import normal
from vlray.pipelines.state import Record
from vlray.pipelines.steps import Step
from vlray.settings.options import flatten
from vlray.settings.secrets import redact, redact_all
from vlray.storage import files
from vlray.version import __version__

IGNORED_SETTINGS = ("env.runs_dir", "env.log_level", "env.log_format", "cluster.", "watch.")
"""Settings that do not affect the result of a step: where it runs and how it is monitored."""

RESTARTED = ("train", "tune", "convert")
"""Commands that start over if their inputs have changed, because they would treat the old output as
finished or refuse it."""

RESUMED = ("extract", *RESTARTED)
"""Commands that resume from an unfinished output."""

MAX_REASONS = 3


@dataclass(frozen=True)
class Plan:
    """Whether a step runs, and why.

    Attributes:
        step: The step.
        reason: Reason to run the step; empty: the step is done.
        settings: Settings that affect the result, to be recorded.
        inputs: Fingerprints of the inputs.
        restarts: Whether the existing output is renamed first, so that the step starts over.
        has_other_settings: Whether the settings differ from those of the last run.
        is_left_out: Whether ``--only`` excludes the step although it is not done.
    """

    step: Step
    reason: str
    settings: dict[str, object]
    inputs: dict[str, str]
    restarts: bool = False
    has_other_settings: bool = False
    is_left_out: bool = False

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.reason


def make_plan(
    step: Step, record: Record | None, *, redo: bool = False, waits_for: Sequence[str] = ()
) -> Plan:
    """Decide whether a step runs.

    Args:
        step: The step.
        record: Record of the step's last run; None: the step has never run.
        redo: Whether to run the step in any case.
        waits_for: Earlier steps that this step reads from and that will run first; only used when
            planning ahead.
    """
    settings, inputs = settings_of(step), inputs_of(step)
    has_output = bool(step.output) and fingerprint(step.output, deep=False) != ABSENT
    if record is None:
        reason = "requested by --redo" if redo else "not run yet"
        return Plan(step, reason, settings, inputs, redo and has_output and step.command in RESUMED)
    changed_settings = _changed_settings(redact_all(record.settings), settings)
    changed_inputs = _changed_inputs(record, inputs, same_settings=not changed_settings)
    reasons = []
    if redo:
        reasons.append("requested by --redo")
    if record.status != "finished":
        words = {"failed": "it failed", "stopped": "it was stopped"}
        reasons.append(words.get(record.status, "it was interrupted"))
    reasons += changed_settings
    reasons += [f"{path} {change}" for path, change in changed_inputs.items()]
    # Another version may compute another result from the same settings and inputs.
    if record.version != __version__:
        reasons.append(f"vlray changed from {record.version} to {__version__}")
    if step.output and not has_output and record.status == "finished":
        reasons.append(f"{redact(step.output)} no longer exists")
    # Reasons of the step itself are more specific, so they alone are listed.
    if waits_for and not reasons:
        reasons.append(f"it depends on {' and '.join(waits_for)}, which will run first")
    more = f" and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return Plan(
        step,
        "; ".join(reasons[:MAX_REASONS]) + more,
        settings,
        inputs,
        restarts=has_output
        and (
            (redo and step.command in RESUMED) or (bool(changed_inputs) and _is_stale(step, record))
        ),
        has_other_settings=bool(changed_settings),
    )


def _is_stale(step: Step, record: Record) -> bool:
    """Return whether the last run wrote this output and the command cannot update it."""
    return step.command in RESTARTED and normal(record.output) == normal(redact(step.output))


def plan_ahead(
    steps: Sequence[Step],
    records: Mapping[str, Record],
    *,
    only: Collection[str] = (),
    redo: Collection[str] = (),
) -> list[Plan]:
    """Plan all steps before any of them runs."""
    plans: dict[str, Plan] = {}
    for step in steps:
        # The outputs of pending steps will change, even if their fingerprints still match.
        pending = [name for name in step.after if not plans[name].is_done]
        plan = make_plan(step, records.get(step.name), redo=step.name in redo, waits_for=pending)
        if only and step.name not in only and not plan.is_done:
            plan = Plan(step, plan.reason, plan.settings, plan.inputs, is_left_out=True)
        plans[step.name] = plan
    return list(plans.values())


def settings_of(step: Step) -> dict[str, object]:
    """Return the non-default settings that affect a step's result, keyed by dotted name."""
    values = flatten(redact_all(step.config.changed()))
    changed = {".".join(path): value for path, value in values.items()}
    return {name: value for name, value in changed.items() if not name.startswith(IGNORED_SETTINGS)}


def _changed_settings(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Describe each changed setting; a setting that is missing has its default value."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} changed from {_value_text(before, name)} to {_value_text(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _value_text(values: Mapping[str, object], name: str) -> str:
    if name not in values:
        return "the default"
    value = values[name]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _changed_inputs(record: Record, now: Mapping[str, str], same_settings: bool) -> dict[str, str]:
    """Describe each changed input. New inputs do not count: the step may have written them itself.

    Args:
        record: Record of the step's last run.
        now: Current fingerprints of the existing inputs.
        same_settings: Whether the settings are those of the last run. If not, a missing input may
            just no longer be named by them.
    """
    before = record.inputs
    changed = {path: "has changed" for path in before if now.get(path, ABSENT) != before[path]}
    gone = {path: "is gone" for path in changed if path not in now}
    if same_settings:
        return changed | gone
    return {path: change for path, change in changed.items() if path not in gone}


def check_local(plan: Plan) -> None:
    """Raise an error if an output in object storage would be renamed: that copies all its data.

    Raises:
        ValueError: The step restarts and its output is in object storage.
    """
    if plan.restarts and files.is_uri(plan.step.output):
        raise ValueError(
            f"step {plan.step.name} must start over ({plan.reason}), but its old output "
            f"{redact(plan.step.output)} cannot be renamed in object storage; choose another "
            "output for the step, or remove the old one"
        )
