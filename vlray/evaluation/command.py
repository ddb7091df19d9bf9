"""The test command: test a checkpoint, print its metrics and list the written files."""

from __future__ import annotations

import logging

from vlray.config.test import TestConfig
from vlray.evaluation.report import headline, table
from vlray.evaluation.run import test
from vlray.models.memory import is_out_of_memory
from vlray.runs.session import Session
from vlray.settings import secrets
from vlray.settings.wording import counted

log = logging.getLogger("vlray.evaluation")


def run(config: TestConfig, session: Session) -> None:
    """Test a checkpoint, then print the metrics and the paths of the written files.

    Raises:
        MemoryError: A batch does not fit into memory.
    """
    folder = session.open(config)
    try:
        result = test(config, config.output or str(folder.path))
    # CUDA's out-of-memory error is a RuntimeError, as are many other errors.
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise MemoryError(
            f"a batch of {counted(config.batch_size, 'example')} does not fit into memory "
            f"({reason}). Use a smaller --batch-size, or --precision bf16"
        ) from error
    for note in result.notes:
        log.info("%s", note)
    if result.metrics:
        text = table(result.metrics, result.baseline)
        log.debug("%s", text)
        folder.note(headline(result.metrics[0]))
        secrets.show(text, end="\n\n")
    for path in result.written:
        secrets.show(path)
