"""What ``vlray train`` does around the training: the run's folder, the last words, the status."""

from __future__ import annotations

import logging
import shlex
import sys

from vlray.config.train import TrainConfig
from vlray.engine.trainer import in_project, run_training
from vlray.engine.training import Progress
from vlray.models.memory import is_out_of_memory
from vlray.runs.folder import open_run

log = logging.getLogger("vlray.engine")


def run(config: TrainConfig) -> None:
    """Train, say what came out and how to go on; a mistake of the user's ends with status 2."""
    config = in_project(config)
    with open_run(config, "train") as folder:
        log.info("settings and log of this run: %s", folder.path)
        try:
            result = run_training(config, folder.path)
        except KeyboardInterrupt:
            log.warning("stopped; run the same command again to go on from the last checkpoint")
            sys.exit(130)
        except Exception as error:
            log.debug("where it happened", exc_info=True)
            _explain(error)
        lines = _summary(result, config)
        if result and not result.best:  # otherwise the best evaluation is what came out
            folder.note("; ".join(lines[:2]))
        for line in lines:
            log.info("%s", line)
        if result and not result.ended:
            sys.exit(130)


def _explain(error: Exception) -> None:
    """Say what happened, and end: 2 for a mistake of the user's, otherwise 1."""
    if is_out_of_memory(error):
        log.error("vlray train: %s", str(error) or "the memory does not hold the data or the model")
        sys.exit(1)
    if isinstance(error, FloatingPointError):
        log.error("vlray train: %s", error)
        sys.exit(1)
    if isinstance(error, ValueError | OSError | ImportError):
        log.error("vlray train: %s", error)
        sys.exit(2)
    log.error(
        "vlray train stopped: %s\nThe last checkpoint stays; run the same command again to go on "
        "from it. With --env.log-level debug the log has the whole trace.",
        f"{type(error).__name__}: {error}",
    )
    sys.exit(1)


def _summary(result: Progress | None, config: TrainConfig) -> list[str]:
    output = shlex.quote(config.output)
    if result is None:
        return [f"nothing to do: the training in {config.output} has ended"]
    if not result.ended:
        return [
            f"stopped after step {result.step:,} of {result.steps:,}, with a checkpoint; run the "
            "same command again to go on"
        ]
    lines = [f"{result.step:,} steps"]
    if result.step < result.steps:
        lines = [
            f"ended after step {result.step:,} of {result.steps:,}: no evaluation was better for "
            f"{result.since_best} times (training.patience)"
        ]
    if result.best:
        name, value = next(iter(result.best.items()))
        lines.append(f"best {name} {value:.4g} after step {result.best_step:,}: {output}/best")
    else:
        lines.append(f"not evaluated; the model is in {output}/last")
    if config.objective == "pretraining":
        lines.append(f"train it further: vlray train DATA REGIONS OUT --weights {output}")
    else:
        split = config.validation.valid or "DATASET:SPLIT"
        lines.append(f"test it: vlray test {output} {shlex.quote(split)}")
    return lines
