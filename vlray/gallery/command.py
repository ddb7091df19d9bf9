"""The view command: build the gallery of an output and print the most frequent labels."""

from __future__ import annotations

import logging

from vlray.config.view import ViewConfig
from vlray.gallery.run import build
from vlray.gallery.summary import table
from vlray.regions.output import open_output
from vlray.runs.session import Session

log = logging.getLogger("vlray.gallery")


def run(config: ViewConfig, session: Session) -> None:
    """Build the gallery, then print a table of the labels and the path of the page."""
    session.open(config)
    result = build(
        open_output(config.output),
        page=config.page,
        min_score=config.min_score,
        limit=config.limit,
        split=config.split,
        annotated=config.annotated,
        images_root=config.images_root,
    )
    counts = (result.images, result.regions, result.failures, result.missing)
    log.info(
        "%s images, %s regions, %s failures, %s unreadable images",
        *(f"{count:,}" for count in counts),
    )
    print(table(result.summary))
    print(f"\ngallery: {result.path}")
