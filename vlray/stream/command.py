"""What ``vlray extract`` does around the pipeline: the run's folder, the last words, the status."""

from __future__ import annotations

import logging
import shlex
import sys

from vlray.config.extract import ExtractConfig
from vlray.runs.folder import open_run
from vlray.stream.run import ExtractResult, extract

log = logging.getLogger("vlray.stream")


def run(config: ExtractConfig) -> None:
    """Extract, say what was done and how to go on; a mistake of the user's ends with status 2."""
    with open_run(config, "extract") as folder:
        log.info("settings and log of this run: %s", folder.path)
        try:
            result = extract(config)
        except KeyboardInterrupt:
            log.warning("stopped; run the same command again to finish what is missing")
            sys.exit(130)
        except Exception as error:
            log.debug("where it happened", exc_info=True)
            cause = _raised_in_worker(error)
            if cause is error and isinstance(error, (ValueError, OSError)):
                log.error("vlray extract: %s", error)
                sys.exit(2)
            log.error(
                "vlray extract stopped: %s\nWhat is written stays; run the same command again to "
                "finish what is missing. With --env.log-level debug, %s has the whole trace.",
                f"{type(cause).__name__}: {cause}",
                folder.log_path,
            )
            sys.exit(1)
        lines = _summary(result, config)
        folder.note(lines[0])
        for line in lines:
            log.info("%s", line)
        if result.failed and not result.images:
            log.error("vlray extract: not one image gave regions")
            sys.exit(1)


def _raised_in_worker(error: BaseException) -> BaseException:
    """Take Ray's wrappers off what a task or an actor raised."""
    while True:
        inner = getattr(error, "cause", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _summary(result: ExtractResult, config: ExtractConfig) -> list[str]:
    if not result.images + result.failed:
        return [f"nothing to do: all {result.planned:,} images are in {result.output}"]
    done = result.images + result.failed
    lines = [
        f"{result.images:,} images, {result.regions:,} regions, {result.bytes / 1e6:,.2f} MB in "
        f"{result.seconds:.1f} s ({done / result.seconds:.2f} images/s, start-up included)"
    ]
    if result.changed:
        lines.append(f"{result.changed:,} images had changed and were done again")
    if result.short:
        lines.append(
            f"{result.short:,} images gave fewer than min_boxes={config.detector.min_boxes} regions"
        )
    if result.failed:
        lines.append(
            f"{result.failed:,} images failed; failures/ in {result.output} tells which and why"
        )
    if result.raised:
        lines.append(
            f"on {result.raised:,} of them the detector raised; the next run tries these again"
        )
    lines.append(f"look at them: vlray view {shlex.quote(result.output)}")
    return lines
