"""The logs command: list the runs, show one's log, follow it."""

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


def run(config: LogsConfig, session: Session) -> None:
    """Do what was asked for; it leaves no run folder."""
    if config.list or not (config.run or config.follow or config.show_command):
        _list(config)
    else:
        _show(config)


def _list(config: LogsConfig) -> None:
    runs = [run for run in _runs(config) if run.name.startswith(config.run)]
    if not runs:
        print(_nothing(config))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print("\n".join(table(runs, width=width, with_project=config.all_projects)))
    if width:
        print("how to repeat one: vlray logs RUN --command")


def _show(config: LogsConfig) -> None:
    runs = _runs(config)
    given = config.run or find.LAST
    if not runs and given == find.LAST:
        raise ValueError(_nothing(config))
    found = find.find(given, runs, config.env.runs_dir)
    if config.show_command:
        print(command_of(found))
        return
    sys.stderr.write(f"{_about(found)}\n")
    if config.follow:
        ended = follow(found, config.lines, sys.stdout.buffer)
        sys.stderr.write(f"{ended.name}: {ended.state} after {ended.took}\n")
    else:
        show(found, config.lines, sys.stdout.buffer)


def _runs(config: LogsConfig) -> list[Run]:
    places = config.env.runs_dir
    return find.runs_of(places, find.projects(places) if config.all_projects else [config.project])


def _about(run: Run) -> str:
    """Say what is shown, and how to run it again."""
    state = f"{run.folder}: {run.state}, started {run.started:%Y-%m-%d %H:%M:%S}, {run.took}"
    return f"{state}\nagain: {command_of(run, width=0)}"


def _nothing(config: LogsConfig) -> str:
    places = config.env.runs_dir
    others = [name for name in find.projects(places) if name != config.project]
    hint = f"; there are runs of --project {', '.join(others)}" if others else ""
    what = f" that begin with {config.run}" if config.run and config.list else ""
    return f"no runs of project {config.project}{what} in {places.absolute()}{hint}"
