"""``vlray extract``: run the pipeline and print the summary."""

from __future__ import annotations

import logging
import shlex

from vlray.config.extract import ExtractConfig
from vlray.runs.session import Failed, Session
from vlray.settings.wording import counted
from vlray.stream.changes import MAX_NAMES
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
        raise Failed(
            f"all images failed ({result.failed:,}), the first: {result.failure}; failures/ in "
            f"{result.output} lists the reasons"
        )


def _summary(result: ExtractResult, config: ExtractConfig) -> list[str]:
    unlisted = []
    if result.unlisted:
        names = ", ".join(result.unlisted[:MAX_NAMES])
        count = counted(len(result.unlisted), "folder")
        unlisted = [f"{count} could not be listed ({names}), so their images are missing"]
    if result.damaged:
        count = counted(len(result.damaged), "archive")
        names = ", ".join(result.damaged[:MAX_NAMES])
        unlisted.append(f"{count} damaged ({names}), so images may be missing")
    if not result.images + result.failed:
        nothing = f"nothing to do: all images ({result.planned:,}) are already in {result.output}"
        return [nothing, *_failed_before(result), *unlisted]
    done = result.images + result.failed
    lines = [
        f"{counted(result.images, 'image')}, {counted(result.regions, 'region')}, "
        f"{result.bytes / 1e6:,.2f} MB in "
        f"{result.seconds:.1f} s ({done / result.seconds:.2f} images/s, start-up included)"
    ]
    if result.changed:
        lines.append(f"extracted again after a change: {counted(result.changed, 'image')}")
    if result.short:
        lines.append(
            f"fewer regions than min_boxes={config.detector.min_boxes}: "
            f"{counted(result.short, 'image')}"
        )
    if result.failed:
        lines.append(
            f"{counted(result.failed, 'image')} failed, the first: {result.failure}; failures/ in "
            f"{result.output} lists the reasons"
        )
    if result.raised:
        lines.append(
            f"the detector raised an exception on {result.raised:,} of them; the next run retries "
            "these"
        )
    lines += unlisted
    lines.append(f"to see the regions: vlray view {shlex.quote(result.output)}")
    return lines


def _failed_before(result: ExtractResult) -> list[str]:
    if not result.failed_before:
        return []
    return [
        f"{counted(result.failed_before, 'image')} failed in an earlier run, the first: "
        f"{result.failure}; failures/ lists the reasons, and --retry-failures tries them again"
    ]
