"""The test command: test, print the figures, and say where the files are."""

from __future__ import annotations

import logging

from vlray.config.test import TestConfig
from vlray.evaluation.report import headline, table
from vlray.evaluation.run import test
from vlray.models.memory import is_out_of_memory
from vlray.runs.session import Session

log = logging.getLogger("vlray.evaluation")


def run(config: TestConfig, session: Session) -> None:
    """Test, print the metrics and the files that were written.

    Raises:
        MemoryError: The memory does not hold a batch.
    """
    folder = session.open(config)
    try:
        result = test(config, config.output or str(folder.path))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise MemoryError(
            f"the memory does not hold a batch of {config.batch_size}; give a smaller "
            f"--batch-size, or --precision bf16: {reason}"
        ) from error
    for note in result.notes:
        log.info("%s", note)
    if result.figures:
        text = table(result.figures, result.baseline)
        log.debug("%s", text)
        folder.note(headline(result.figures[0]))
        print(text, end="\n\n")
    for path in result.written:
        print(path)
