"""The view command: build the gallery of an output and print the most frequent labels."""

from __future__ import annotations

import logging

from vlray.config.view import ViewConfig
from vlray.gallery.run import build
from vlray.gallery.summary import table
from vlray.regions.output import open_output
from vlray.runs.session import Session
from vlray.settings import secrets
from vlray.settings.wording import counted

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
    log.info(
        "%s, %s, %s, %s",
        counted(result.images, "image"),
        counted(result.regions, "region"),
        counted(result.failures, "failure"),
        counted(result.missing, "unreadable image"),
    )
    secrets.show(table(result.summary))
    secrets.show(f"\ngallery: {result.path}")
