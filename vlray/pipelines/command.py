"""The pipeline command: check, lock, run the steps, and report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.check import check
from vlray.pipelines.page import write_page
from vlray.pipelines.plan import check_local, plan_ahead
from vlray.pipelines.run import Outcome, run_steps
from vlray.pipelines.state import State
from vlray.pipelines.steps import Step, folder_of, resolve
from vlray.pipelines.table import plan_lines, result_lines
from vlray.runs.session import STOPPED, Failed, Session
from vlray.settings import secrets
from vlray.settings.reader import UsageError
from vlray.storage.locks import locked

log = logging.getLogger("vlray.pipelines")


def run(config: PipelineConfig, session: Session) -> None:
    """Run the steps that are not done, or print the plan in a dry run.

    Raises:
        ValueError: A step cannot succeed, or another pipeline is running in the folder; nothing
            was run.
        Failed: A step failed.
        KeyboardInterrupt: A step was stopped.
    """
    steps, folder = resolve(config), folder_of(config)
    # A dry run writes nothing, so it needs no lock and no run folder.
    if config.dry_run:
        _print_plan(config, steps, folder)
        return
    with _exclusive(folder):
        state = _load_checked(config, steps, folder)
        run_folder = session.open(config)
        log.info("settings and log of this run: %s", run_folder.path)
        outcome = run_steps(steps, state, config, folder)
        run_folder.note(_summary(outcome))
        _report(config, steps, folder, state, outcome)
    # Raise only now, so that a failed or stopped pipeline also gets its table and page.
    if outcome.status == STOPPED:
        raise KeyboardInterrupt
    if outcome.status:
        raise Failed(outcome.message)


def _print_plan(config: PipelineConfig, steps: Sequence[Step], folder: Path) -> None:
    state = State.load(folder)
    for line in plan_lines(
        plan_ahead(steps, state.records, only=config.only, redo=config.redo), folder
    ):
        secrets.show(line)
    _refuse_mistakes(steps)


def _load_checked(config: PipelineConfig, steps: Sequence[Step], folder: Path) -> State:
    """Load the state; raise ValueError if a step cannot succeed."""
    _refuse_mistakes(steps)
    state = State.load(folder)
    for plan in plan_ahead(steps, state.records, only=config.only, redo=config.redo):
        check_local(plan)
    return state


def _refuse_mistakes(steps: Sequence[Step]) -> None:
    if mistakes := check(steps):
        raise UsageError(PipelineConfig, mistakes)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock on the pipeline's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # A pipeline may run for days, so a second one is refused instead of waiting.
        with locked(folder / ".lock", wait=False):
            yield
    except BlockingIOError:
        raise ValueError(
            f"another pipeline is running in {folder}; wait for it, or choose another --output"
        ) from None


def _summary(outcome: Outcome) -> str:
    counts: dict[str, list[str]] = {}
    for name, state in outcome.states.items():
        counts.setdefault(state, []).append(name)
    return ", ".join(f"{state}: {' '.join(names)}" for state, names in counts.items())


def _report(
    config: PipelineConfig, steps: Sequence[Step], folder: Path, state: State, outcome: Outcome
) -> None:
    lines = result_lines(steps, outcome.states, state.records)
    # For the log file; the console gets the same lines from print.
    log.debug("%s", "\n".join(lines))
    secrets.show("\n".join(lines))
    secrets.show(f"\npage: {write_page(config, steps, folder, state, outcome)}")
