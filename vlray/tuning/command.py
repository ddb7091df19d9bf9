"""Entry point of ``vlray tune``, and the summary that it prints at the end."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from vlray.config.tune import TuneConfig
from vlray.runs.session import Failed, Session
from vlray.settings import secrets
from vlray.tuning.result import BEST, PARQUET, Result, headline, table
from vlray.tuning.run import tune
from vlray.tuning.tuned import read_tuned

log = logging.getLogger("vlray.tuning")


def run(config: TuneConfig, session: Session) -> None:
    """Search, then print the best trials.

    Raises:
        Failed: No trial has a value for the objective.
    """
    tuned = read_tuned(config)
    folder = session.open(config)
    log.info("settings and log of this run: %s", folder.path)
    result = tune(config, tuned, folder.path)
    folder.note(headline(result))
    _report(result, config)


def _report(result: Result, config: TuneConfig) -> None:
    out = Path(config.output)
    text = table(result)
    # For the log file; the console gets the same text from print.
    log.debug("%s", text)
    secrets.show(text)
    if result.failed:
        log.warning(
            "%s trials failed (errors in %s); run the same command again to repeat them",
            f"{result.failed:,}",
            out / PARQUET,
        )
    if result.best is None:
        raise Failed(f"no trial has a value of {result.objective.name}")
    log.info("%s", headline(result))
    if result.defaults and not result.is_better:
        log.warning("no trial beat the default settings")
    best = shlex.quote(str(out / BEST))
    if result.tuned.name == "extract":
        log.info("use it: vlray extract IMAGES REGIONS --config %s", best)
    else:
        log.info("use it: vlray train --output MODEL --config %s", best)
