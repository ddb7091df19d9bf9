"""The view command: open the output, make its gallery, print what was found."""

from __future__ import annotations

import logging
import sys

from vlray.config.view import ViewConfig
from vlray.gallery.run import build
from vlray.gallery.summary import table
from vlray.regions.output import open_output
from vlray.runs.folder import open_run

log = logging.getLogger("vlray.gallery")


def run(config: ViewConfig) -> None:
    """Make the gallery; a mistake of the user's ends with status 2."""
    with open_run(config, "view"):
        try:
            output = open_output(config.output)
            result = build(
                output,
                page=config.page,
                min_score=config.min_score,
                limit=config.limit,
                split=config.split,
                annotated=config.annotated,
                images_root=config.images_root,
            )
        except (OSError, ValueError) as error:
            log.debug("where it happened", exc_info=True)
            log.error("vlray view: %s", error)
            sys.exit(2)
        log.info(
            "%s images, %s regions, %s failures, %s not readable now",
            *(
                f"{count:,}"
                for count in (result.images, result.regions, result.failures, result.missing)
            ),
        )
    print(table(result.summary))
    print(f"\ngallery: {result.path}")
