"""The test command: test, print the figures, and say where the files are."""

from __future__ import annotations

import logging
import sys

from vlray.config.test import TestConfig
from vlray.evaluation.report import headline, table
from vlray.evaluation.run import test
from vlray.models.memory import is_out_of_memory
from vlray.runs.folder import open_run

log = logging.getLogger("vlray.evaluation")


def run(config: TestConfig) -> None:
    """Test and report; a mistake of the user's ends with status 2."""
    with open_run(config, "test") as folder:
        try:
            result = test(config, config.output or str(folder.path))
        except KeyboardInterrupt:
            log.warning("stopped; nothing was written")
            sys.exit(130)
        except (OSError, ValueError, ImportError) as error:
            log.debug("where it happened", exc_info=True)
            log.error("vlray test: %s", error)
            sys.exit(2)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.error(
                "vlray test: the memory does not hold a batch of %d; give a smaller "
                "--batch-size, or --precision bf16: %s",
                config.batch_size,
                str(error).partition("\n")[0],
            )
            sys.exit(1)
        for note in result.notes:
            log.info("%s", note)
        if result.figures:
            text = table(result.figures, result.baseline)
            log.debug("%s", text)
            folder.note(headline(result.figures[0]))
            print(text, end="\n\n")
        for path in result.written:
            print(path)
