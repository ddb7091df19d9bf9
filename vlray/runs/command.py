"""``vlray logs``: list runs, show a log, follow a log."""

from __future__ import annotations

import shutil
import sys

from vlray.config.logs import LogsConfig
from vlray.runs import find
from vlray.runs.follow import follow, show
from vlray.runs.repeat import command_of
from vlray.runs.run import Run
from vlray.runs.session import Session
from vlray.runs.table import table
from vlray.settings import secrets


def run(config: LogsConfig, session: Session) -> None:
    """List the runs or show one; this command itself creates no run folder."""
    if config.list or not (config.run or config.follow or config.show_command):
        _list(config)
    else:
        _show(config)


def _list(config: LogsConfig) -> None:
    runs = [run for run in _runs(config) if run.name.startswith(config.run)]
    if not runs:
        secrets.show(_no_runs(config))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    secrets.show("\n".join(table(runs, width=width, with_project=config.all_projects)))
    if width:
        secrets.show("to repeat a run: vlray logs RUN --command")


def _show(config: LogsConfig) -> None:
    runs = _runs(config)
    name = config.run or find.LAST
    if not runs and name == find.LAST:
        raise ValueError(_no_runs(config))
    run = find.find(name, runs, config.env.runs_dir)
    if config.show_command:
        secrets.show(command_of(run))
        return
    # On stderr, so that stdout holds nothing but the log.
    sys.stderr.write(f"{secrets.printable(_header(run))}\n")
    if config.follow:
        ended = follow(run, config.lines, sys.stdout.buffer)
        sys.stderr.write(f"{ended.name}: {ended.state} after {ended.took}\n")
    else:
        show(run, config.lines, sys.stdout.buffer)


def _runs(config: LogsConfig) -> list[Run]:
    runs_dir = config.env.runs_dir
    names = find.projects(runs_dir) if config.all_projects else [config.project]
    return find.runs_of(runs_dir, names)


def _header(run: Run) -> str:
    """Return two lines: the state of a run, and the command that repeats the run."""
    state = f"{run.folder}: {run.state}, started {run.started:%Y-%m-%d %H:%M:%S}, {run.took}"
    return f"{state}\nrepeat: {command_of(run, width=0)}"


def _no_runs(config: LogsConfig) -> str:
    runs_dir = config.env.runs_dir
    others = [name for name in find.projects(runs_dir) if name != config.project]
    hint = f"; projects with runs: {', '.join(others)} (--project)" if others else ""
    prefix = f" with a name that begins with {config.run}" if config.run and config.list else ""
    return f"no runs for project {config.project}{prefix} in {runs_dir.absolute()}{hint}"
