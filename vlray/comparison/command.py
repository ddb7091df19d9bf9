"""The compare command: compare, print the table, and say whether it is good enough."""

from __future__ import annotations

import logging

from vlray.comparison.result import Comparison
from vlray.comparison.run import JSON_NAME, PAGE_NAME, compare
from vlray.comparison.table import cosine_text, percent, table
from vlray.config.compare import CompareConfig
from vlray.runs.session import Failed, Session
from vlray.storage import files

log = logging.getLogger("vlray.comparison")


def run(config: CompareConfig, session: Session) -> None:
    """Compare and report.

    Raises:
        Failed: A limit is not reached.
    """
    folder = session.open(config)
    report = config.report or str(folder.path)
    result = compare(
        config.a,
        config.b,
        report=report,
        split=config.split,
        iou_thresh=config.iou_thresh,
        worst=config.worst,
        images_root=config.images_root,
    )
    matched = percent(result.overall.share(result.overall.matched))
    folder.note(f"{matched} of the boxes of A and B have a partner")
    text = table(result)
    log.debug("%s", text)
    print(text)
    print(f"\nfigures: {files.join(report, JSON_NAME)}")
    if config.worst:
        print(f"page: {files.join(report, PAGE_NAME)}")
    if failed := _below(result, config):
        raise Failed("; ".join(failed))


def _below(result: Comparison, config: CompareConfig) -> list[str]:
    """Say which limits are not reached."""
    overall = result.overall
    failed = []
    share = overall.share(overall.matched)
    if share < config.min_matched:
        failed.append(
            f"{percent(share)} of the boxes have a partner, fewer than "
            f"--min-matched {config.min_matched:g}"
        )
    if config.min_cosine > -1:
        if not overall.cosine.count:
            failed.append("there is no pair of features for --min-cosine to look at")
        elif 1 - overall.cosine.mean < config.min_cosine:
            failed.append(
                f"the mean cosine is {cosine_text(overall.cosine.mean)}, below "
                f"--min-cosine {config.min_cosine:g}"
            )
    return failed
