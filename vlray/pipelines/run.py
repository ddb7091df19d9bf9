"""Run and record the steps in order; stop at the first that does not finish."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.metrics import headline
from vlray.pipelines.plan import Plan, check_local, make_plan
from vlray.pipelines.process import Ended, run_step
from vlray.pipelines.state import Record, State, Status
from vlray.pipelines.steps import Step
from vlray.runs.run import Run
from vlray.runs.session import FAILED, STOPPED
from vlray.settings.secrets import redact
from vlray.version import __version__

log = logging.getLogger("vlray.pipelines")


@dataclass
class Outcome:
    """Outcome of a pipeline run.

    Attributes:
        status: Exit status of the pipeline; a step that exits with 2 counts as failed.
        states: State of every step, keyed by name: ``already done``, ``finished``, ``failed``,
            ``stopped`` or ``not run``.
        why: Why each step was run, keyed by step name; steps that were not run are left out.
        message: Why a step failed and what to do; empty: no step failed.
    """

    status: int = 0
    states: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    message: str = ""


def run_steps(steps: Sequence[Step], state: State, config: PipelineConfig, folder: Path) -> Outcome:
    """Run every step that is not done, in order; stop at the first that does not finish.

    Args:
        steps: All steps.
        state: Records of earlier runs; updated with each step.
        config: Settings of the pipeline.
        folder: Folder of the pipeline.

    Raises:
        ValueError: The old output of a step that starts over cannot be set aside.
        OSError: The state cannot be written, or an input cannot be read.
    """
    outcome = Outcome(states={step.name: "not run" for step in steps})
    for number, step in enumerate(steps, 1):
        # Plan again right before the step runs: earlier steps may have changed its inputs.
        plan = make_plan(step, state.records.get(step.name), redo=step.name in config.redo)
        head = f"step {number} of {len(steps)}, {step.name}:"
        if plan.is_done:
            log.info("%s already done, skipping", head)
            outcome.states[step.name] = "already done"
        elif config.only and step.name not in config.only:
            log.info("%s excluded by --only (to do: %s)", head, plan.reason)
        else:
            log.info("%s running vlray %s (%s)", head, step.command, plan.reason)
            outcome.why[step.name] = plan.reason
            outcome.status, outcome.message = _run(plan, state, folder)
            outcome.states[step.name] = state.records[step.name].status
            if outcome.status:
                break
    return outcome


def _run(plan: Plan, state: State, folder: Path) -> tuple[int, str]:
    """Run one step; return the exit status of the pipeline, and a message if the step failed."""
    step = plan.step
    # Check again: this plan is newer than the one that was checked before the first step.
    check_local(plan)
    if plan.restarts:
        old_output = set_aside(Path(step.output).expanduser())
        log.info("renamed the old %s to %s", step.output, old_output)
    # Settings and inputs as planned: a change during the run is a reason to run again.
    record = Record(
        "running", plan.settings, plan.inputs, __version__, time.time(), output=redact(step.output)
    )
    # Record the step before it runs, so that a killed pipeline leaves it as "running".
    state.record(step.name, record)
    started = time.monotonic()
    ended = run_step(step, folder)
    seconds = time.monotonic() - started
    status: Status = "finished"
    if ended.status:
        was_stopped = ended.was_stopped or ended.status == STOPPED
        status = "stopped" if was_stopped else "failed"
    state.record(
        step.name,
        replace(
            record,
            status=status,
            seconds=round(seconds, 1),
            run=str(ended.run.resolve()) if ended.run else "",
            result=_result(step, ended),
        ),
    )
    # A stop request ends the pipeline even if the step still finished.
    if ended.was_stopped or status == "stopped":
        return STOPPED, ""
    return (FAILED, _explain(plan, ended.status)) if ended.status else (0, "")


def _result(step: Step, ended: Ended) -> str:
    """Summarize the result of a step in one line: its first metric, or the result of its run."""
    metric = "" if ended.status else headline(step)
    return metric or (" ".join(Run(ended.run).result.split()) if ended.run else "")


def set_aside(output: Path) -> Path:
    """Rename a step's output to an unused name in the same folder, and return the new path."""
    time_of_day = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        # Two renames within a second would get the same name.
        tail = f"-{number}" if number > 1 else ""
        target = output.with_name(f"{output.stem}-before-{time_of_day}{tail}{output.suffix}")
        if not target.exists():
            return output.rename(target)
        number += 1


def _explain(plan: Plan, status: int) -> str:
    step = plan.step
    end = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    sentences = [f"step {step.name} (vlray {step.command}) {end}; its messages are above."]
    sentences.append("Run the same pipeline again to resume from this step.")
    if plan.has_other_settings and step.output:
        sentences.append(
            f"The settings of the step have changed ({plan.reason}): if they do not fit "
            f"{step.output}, pass --redo {step.name} to rename that output and start over."
        )
    return " ".join(sentences)
