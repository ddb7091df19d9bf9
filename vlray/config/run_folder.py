"""The folder of one run: its settings, its installed versions and its log."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vlray.config.base import Command


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, open for logging until it is closed (or its ``with`` block ends)."""

    path: Path
    log_path: Path
    handlers: tuple[logging.Handler, ...]

    def close(self) -> None:
        """Stop logging into it."""
        for handler in self.handlers:
            logging.getLogger("vlray").removeHandler(handler)
            handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_run(config: Command, command: str) -> RunFolder:
    """Make ``runs/<project>/<command>-<time>/``, write what repeats the run, and start its log.

    The folder holds ``settings.yaml`` (every setting; ``--config`` of it repeats the run),
    ``changed.yaml`` (those that are not the defaults), ``requirements.txt`` (the installed
    versions) and the log of the logger ``vlray``, whose plain messages also go to stderr.
    """
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = _make_folder(config.env.runs_dir / config.project, f"{command}-{time}")
    (path / "settings.yaml").write_text(to_yaml(config.resolved()), encoding="utf-8")
    (path / "changed.yaml").write_text(to_yaml(config.changed()), encoding="utf-8")
    (path / "requirements.txt").write_text("\n".join(_installed()) + "\n", encoding="utf-8")
    log_path = path / f"{config.project}-{command}-{time}.log"
    return RunFolder(path, log_path, _start_log(log_path, config.env.log_level.upper()))


def to_yaml(values: dict[str, Any]) -> str:
    """Write settings as YAML in the order of their definition."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _make_folder(parent: Path, name: str) -> Path:
    """Make a folder that is this run's alone; runs of one second are numbered."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _start_log(path: Path, level: str) -> tuple[logging.Handler, ...]:
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("vlray")
    logger.setLevel(level)
    for handler in (file, console):
        logger.addHandler(handler)
    return file, console


def _installed() -> list[str]:
    """List the installed distributions as pip's requirements, where one came from included."""
    lines = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            lines.add(f"-e {origin['url']}#egg={name}")
        elif origin:
            lines.add(f"{name} @ {origin['url']}")
        else:
            lines.add(f"{name}=={distribution.version}")
    return sorted(lines, key=str.lower)
