"""The test command: test, print the figures, and say where the files are."""

from __future__ import annotations

import logging
import sys

import torch

from vlray.config.run_folder import open_run
from vlray.config.test import TestConfig
from vlray.evaluation.report import table
from vlray.evaluation.run import test

log = logging.getLogger("vlray.evaluation")


def run(config: TestConfig) -> None:
    """Test and report; a mistake of the user's ends with status 2."""
    try:
        folder = open_run(config, "test")
    except OSError as error:
        sys.exit(f"vlray test: no run folder can be made (--env.runs-dir): {error}")
    with folder:
        try:
            result = test(config, config.output or str(folder.path))
        except KeyboardInterrupt:
            log.warning("stopped; nothing was written")
            sys.exit(130)
        except (OSError, ValueError, ImportError) as error:
            log.debug("where it happened", exc_info=True)
            log.error("vlray test: %s", error)
            sys.exit(2)
        except torch.OutOfMemoryError as error:
            log.error(
                "vlray test: the device's memory does not hold a batch of %d; give a smaller "
                "--batch-size, or --precision bf16: %s",
                config.batch_size,
                str(error).partition("\n")[0],
            )
            sys.exit(1)
        for note in result.notes:
            log.info("%s", note)
        if result.figures:
            text = table(result.figures)
            log.debug("%s", text)
            folder.note(text.splitlines()[1])
            print(text, end="\n\n")
        for path in result.written:
            print(path)
