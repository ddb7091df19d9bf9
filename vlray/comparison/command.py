"""The compare command: print a comparison and check it against the limits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from vlray.comparison.result import Comparison
from vlray.comparison.run import JSON_NAME, PAGE_NAME, compare
from vlray.comparison.table import cosine_text, percent, table
from vlray.config.compare import CompareConfig
from vlray.runs.session import Failed, Session
from vlray.settings import secrets
from vlray.storage import files

log = logging.getLogger("vlray.comparison")


def _as_they_are() -> AbstractContextManager[Mapping[str, str]]:
    return nullcontext({})


def run(
    config: CompareConfig,
    session: Session,
    open_outputs: Callable[[], AbstractContextManager[Mapping[str, str]]] = _as_they_are,
) -> None:
    """Compare two outputs and print the results.

    Args:
        config: Options of the command.
        session: The command's session.
        open_outputs: Function that imports files of other tools for the time of the comparison, and
            returns their outputs by source.

    Raises:
        Failed: The result is below ``min_matched`` or ``min_cosine``, or no features were
            compared although ``min_cosine`` is set.
    """
    folder = session.open(config)
    report = config.report or str(folder.path)
    with open_outputs() as imported:
        result = compare(
            config.a,
            config.b,
            report=report,
            split=config.split,
            iou_thresh=config.iou_thresh,
            worst=config.worst,
            images_root=config.images_root,
            imported=imported,
        )
    matched = percent(result.overall.share(result.overall.matched))
    folder.note(f"{matched} of the boxes in A and B have a partner")
    text = table(result)
    # For the log file; the console gets the same text from print.
    log.debug("%s", text)
    secrets.show(text)
    secrets.show(f"\nmetrics: {files.join(report, JSON_NAME)}")
    if config.worst:
        secrets.show(f"page: {files.join(report, PAGE_NAME)}")
    # Check the limits last, so that the results are reported even if they miss the limits.
    if missed := _missed_limits(result, config):
        raise Failed("; ".join(missed))


def _missed_limits(result: Comparison, config: CompareConfig) -> list[str]:
    """Return one message for each limit that the comparison does not reach."""
    overall = result.overall
    missed = []
    share = overall.share(overall.matched)
    if share < config.min_matched:
        missed.append(
            f"{percent(share)} of the boxes have a partner, below "
            f"--min-matched {config.min_matched:g}"
        )
    # Without features there is no cosine: that must fail the limit, not pass it.
    if config.min_cosine > -1:
        if not overall.cosine.count:
            missed.append("--min-cosine cannot be checked: no features were compared")
        elif 1 - overall.cosine.mean < config.min_cosine:
            missed.append(
                f"the mean cosine is {cosine_text(overall.cosine.mean)}, below "
                f"--min-cosine {config.min_cosine:g}"
            )
    return missed
