"""What ``vlray tune`` does around it: the run's folder, the last words, the status."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

from vlray.config.tune import TuneConfig
from vlray.runs.folder import STOPPED, open_run
from vlray.settings import arguments
from vlray.settings.reader import UsageError
from vlray.tuning.result import BEST, PARQUET, Result, headline, table
from vlray.tuning.run import tune
from vlray.tuning.tuned import read_tuned

log = logging.getLogger("vlray.tuning")


def run(config: TuneConfig) -> None:
    """Search, print what was found; a mistake of the user's ends with status 2."""
    try:
        tuned = read_tuned(config)
    except UsageError as error:
        arguments.fail(error.command, error.messages)
    with open_run(config, "tune") as folder:
        log.info("settings and log of this run: %s", folder.path)
        try:
            result = tune(config, tuned, folder.path)
        except KeyboardInterrupt:
            log.warning("stopped; run the same command again to go on")
            sys.exit(STOPPED)
        except Exception as error:
            log.debug("where it happened", exc_info=True)
            if isinstance(error, ValueError | OSError | ImportError):
                log.error("vlray tune: %s", error)
                sys.exit(2)
            log.error(
                "vlray tune stopped: %s\nThe trials that ended stay; run the same command again to "
                "go on. With --env.log-level debug, %s has the whole trace.",
                f"{type(error).__name__}: {error}",
                folder.log_path,
            )
            sys.exit(1)
        folder.note(headline(result))
        _report(result, config)


def _report(result: Result, config: TuneConfig) -> None:
    out = Path(config.output)
    text = table(result)
    log.debug("%s", text)
    print(text)
    if result.failed:
        log.warning(
            "%s trials failed (error in %s); the same command tries them again",
            f"{result.failed:,}",
            out / PARQUET,
        )
    if result.best is None:
        log.error("vlray tune: no trial gave %s", result.objective.name)
        sys.exit(1)
    log.info("%s", headline(result))
    if result.defaults and not result.is_better:
        log.warning("no setting is better than leaving these options away")
    best = shlex.quote(str(out / BEST))
    if result.tuned.name == "extract":
        log.info("use it: vlray extract IMAGES REGIONS --config %s", best)
    else:
        log.info("use it: vlray train --output MODEL --config %s", best)
