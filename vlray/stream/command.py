"""``vlray extract``: run the pipeline and print the summary."""

from __future__ import annotations

import logging
import shlex

from vlray.config.extract import ExtractConfig
from vlray.runs.session import Failed, Session
from vlray.stream.run import ExtractResult, extract

log = logging.getLogger("vlray.stream")


def run(config: ExtractConfig, session: Session) -> None:
    """Run the extraction, then log a summary and the next command.

    Raises:
        Failed: All images failed.
    """
    folder = session.open(config)
    log.info("settings and log of this run: %s", folder.path)
    result = extract(config)
    lines = _summary(result, config)
    folder.note(lines[0])
    for line in lines:
        log.info("%s", line)
    if result.failed and not result.images:
        raise Failed(f"all {result.failed:,} images failed; see failures/ in {result.output}")


def _summary(result: ExtractResult, config: ExtractConfig) -> list[str]:
    if not result.images + result.failed:
        return [f"nothing to do: all {result.planned:,} images are in {result.output}"]
    done = result.images + result.failed
    lines = [
        f"{result.images:,} images, {result.regions:,} regions, {result.bytes / 1e6:,.2f} MB in "
        f"{result.seconds:.1f} s ({done / result.seconds:.2f} images/s, start-up included)"
    ]
    if result.changed:
        lines.append(f"{result.changed:,} images had changed and were extracted again")
    if result.short:
        lines.append(
            f"{result.short:,} images have fewer than min_boxes={config.detector.min_boxes} regions"
        )
    if result.failed:
        lines.append(
            f"{result.failed:,} images failed; failures/ in {result.output} lists them with reasons"
        )
    if result.raised:
        lines.append(
            f"the detector raised on {result.raised:,} of them; the next run retries these"
        )
    lines.append(f"to see the regions: vlray view {shlex.quote(result.output)}")
    return lines
