"""The steps one after another, up to the first that does not finish, and what each leaves."""

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
from vlray.version import __version__

log = logging.getLogger("vlray.pipelines")


@dataclass
class Outcome:
    """What a run of a pipeline did.

    Attributes:
        status: Its exit status; 2 of a step is its failure.
        states: Of every step: ``done before``, ``finished``, ``failed``, ``stopped``, ``not run``.
        why: Of every step that was run: the reason.
        words: Why a step failed, and what to do; empty: none failed.
    """

    status: int = 0
    states: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    words: str = ""


def run_steps(steps: Sequence[Step], state: State, config: PipelineConfig, folder: Path) -> Outcome:
    """Run every step that is not done, in order; the first that does not finish ends it.

    Args:
        steps: All of them.
        state: What was done; it is kept up to date.
        config: Which steps are wanted.
        folder: The pipeline's.

    Raises:
        ValueError: The output of a step that begins anew cannot be set aside.
        OSError: The state cannot be kept, or a place not be looked at.
    """
    outcome = Outcome(states={step.name: "not run" for step in steps})
    for number, step in enumerate(steps, 1):
        plan = make_plan(step, state.records.get(step.name), redo=step.name in config.redo)
        head = f"step {number} of {len(steps)}, {step.name}:"
        if plan.is_done:
            log.info("%s done before", head)
            outcome.states[step.name] = "done before"
        elif config.only and step.name not in config.only:
            log.info("%s left out (--only), though %s", head, plan.reason)
        else:
            log.info("%s vlray %s, because: %s", head, step.command, plan.reason)
            outcome.why[step.name] = plan.reason
            outcome.status, outcome.words = _run(plan, state, folder)
            outcome.states[step.name] = state.records[step.name].status
            if outcome.status:
                break
    return outcome


def _run(plan: Plan, state: State, folder: Path) -> tuple[int, str]:
    """Run one step; return the pipeline's exit status, and the words where the step failed."""
    step = plan.step
    check_local(plan)
    if plan.is_begun_anew:
        kept = set_aside(Path(step.output).expanduser())
        log.info("%s is kept as %s", step.output, kept)
    record = Record(
        "running", plan.settings, plan.inputs, __version__, time.time(), output=step.output
    )
    state.keep(step.name, record)
    began = time.monotonic()
    ended = run_step(step, folder)
    seconds = time.monotonic() - began
    status: Status = "finished"
    if ended.status:
        was_stopped = ended.was_stopped or ended.status == STOPPED
        status = "stopped" if was_stopped else "failed"
    state.keep(
        step.name,
        replace(
            record,
            status=status,
            seconds=round(seconds, 1),
            run=str(ended.run.resolve()) if ended.run else "",
            result=_result(step, ended),
        ),
    )
    if ended.was_stopped or status == "stopped":
        return STOPPED, ""
    return (FAILED, _explain(plan, ended.status)) if ended.status else (0, "")


def _result(step: Step, ended: Ended) -> str:
    """Say what came out, in a line."""
    figures = "" if ended.status else headline(step)
    return figures or (" ".join(Run(ended.run).result.split()) if ended.run else "")


def set_aside(output: Path) -> Path:
    """Give what a step wrote another name beside the old one, and say which."""
    time_of_day = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        tail = f"-{number}" if number > 1 else ""
        kept = output.with_name(f"{output.stem}-before-{time_of_day}{tail}{output.suffix}")
        if not kept.exists():
            return output.rename(kept)
        number += 1


def _explain(plan: Plan, status: int) -> str:
    step = plan.step
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    words = [f"step {step.name} (vlray {step.command}) {how}; what it said is above."]
    words.append("Run the same pipeline again to go on from here.")
    if plan.has_other_settings and step.output:
        words.append(
            f"Its settings have changed ({plan.reason}): where {step.output} does not fit them, "
            f"--redo {step.name} sets it aside and begins anew."
        )
    return " ".join(words)
