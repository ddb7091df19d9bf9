"""Entry point of ``vlray train``, and the summary that it logs at the end."""

from __future__ import annotations

import logging
import shlex

from vlray.config.train import TrainConfig
from vlray.engine.trainer import run_training, with_default_output
from vlray.engine.training import TrainingProgress
from vlray.runs.session import Session

log = logging.getLogger("vlray.engine")


def run(config: TrainConfig, session: Session) -> None:
    """Train, then log the result and the command to run next.

    Raises:
        KeyboardInterrupt: The training was stopped, after writing a checkpoint.
    """
    config = with_default_output(config)
    folder = session.open(config)
    log.info("settings and log of this run: %s", folder.path)
    result = run_training(config, folder.path)
    lines = _summary(result, config)
    if result and not result.best:  # with a best evaluation, lists of runs show that instead
        folder.note("; ".join(lines[:2]))
    if result and not result.ended:
        raise KeyboardInterrupt("\n".join(lines))
    for line in lines:
        log.info("%s", line)


def _summary(result: TrainingProgress | None, config: TrainConfig) -> list[str]:
    output = shlex.quote(config.output)
    if result is None:
        return [f"nothing to do: the training in {config.output} has ended"]
    if not result.ended:
        return [
            f"stopped after step {result.step:,} of {result.steps:,}, with a checkpoint; run the "
            "same command again to resume"
        ]
    lines = [f"{result.step:,} steps"]
    if result.step < result.steps:
        lines = [
            f"ended after step {result.step:,} of {result.steps:,}: {result.since_best} "
            "evaluations without improvement (training.patience)"
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
