"""The checkpoints of a training, and what it goes on from.

Beside the model's own files, the last one has ``training.json`` and ``state.pt``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch

from vlray.config.train import TrainConfig
from vlray.engine.training import Progress, Training
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.protocol import VisionLanguageModel
from vlray.models.store import STATE, CheckpointStore
from vlray.settings.options import flatten
from vlray.version import __version__

FILE = "training.json"

MAY_DIFFER = (
    "project",
    "output",
    "regions",
    "env.",
    "data.",
    "cluster.",
    "watch.",
    "model.weights",
    "model.compile",
    "model.activation_checkpointing",
    "loader.pin_memory",
    "training.accumulate",
    "training.precision",
    "training.evaluate_every",
    "training.save_every",
    "training.patience",
    "training.log_every",
)
"""What may be other options in a resumed run: where things are, who computes, and what changes
rounding alone. Whether the regions are the same ones is told by their provenance."""


@dataclass(frozen=True)
class Resumed:
    """What the run before left, beside the parameters and the optimizer."""

    settings: dict[str, Any]
    progress: Progress
    loader: dict[str, Any]
    """State of the loader."""

    new_parameters: tuple[str, ...]
    """Those that ``model.weights`` did not fill, when it began."""

    history: list[dict[str, Any]]
    """What was watched."""

    @classmethod
    def read(cls, store: CheckpointStore) -> Self | None:
        """Read that of the last checkpoint; None: there is no checkpoint.

        Raises:
            ValueError: The last checkpoint is none of a training.
        """
        if not store.step_folder("last"):
            return None
        try:
            values = json.loads(store.read("last", FILE))
            progress = Progress(**values.pop("progress"))
            names = tuple(values.pop("new_parameters"))
            return cls(progress=progress, new_parameters=names, **values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"the last checkpoint in {store.output} cannot be gone on from ({error}); give "
                "another OUT, and its best or last as --weights"
            ) from error


def check_same(config: TrainConfig, resumed: Resumed) -> None:
    """Refuse to go on with other settings than a training began with.

    Raises:
        ValueError: They differ in what makes another model of it; says in what.
    """
    before, now = flatten(resumed.settings), flatten(config.resolved())
    lines = [
        f"  {'.'.join(path)}: {before.get(path)} there, {now.get(path)} here"
        for path in sorted({*before, *now})
        if not ".".join(path).startswith(MAY_DIFFER) and before.get(path) != now.get(path)
    ]
    if lines:
        raise ValueError(
            f"{config.output} has a training of other settings:\n" + "\n".join(lines) + "\n"
            "Give these settings to go on with it; or another OUT, with --weights "
            f"{config.output} to start from its model"
        )


def save(training: Training, *, is_best: bool) -> None:
    """Write a checkpoint; the first worker does, for all of them have the same."""
    if training.watch is None:
        return
    config, data, progress = training.config, training.data, training.progress
    info = CheckpointInfo(
        vlray_version=__version__,
        model=config.model,
        goal=data.goal,
        loader=data.loader,
        corpus=config.corpus,
        regions=data.regions,
        provenance=data.provenance,
        step=progress.step,
        epoch=training.epoch(),
        metrics=progress.metrics,
        most_frequent=data.most_frequent,
    )
    left = Resumed(
        config.resolved(),
        progress,
        training.loader.state_dict(),
        tuple(sorted(training.new_parameters)),
        training.watch.history,
    )
    state = {
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
    }

    def write(folder: Path) -> None:
        cast(VisionLanguageModel, training.model).save(folder)
        info.write(folder)
        (folder / FILE).write_text(json.dumps(asdict(left)) + "\n", encoding="utf-8")
        torch.save(state, folder / STATE)

    training.store.save(progress.step, write, is_best=is_best)


def restore(training: Training, resumed: Resumed, folder: Path) -> None:
    """Put the optimizer, the scaler and the loader where they stood.

    Args:
        training: As it begins; its model is the checkpoint's already.
        resumed: From the checkpoint.
        folder: The checkpoint.
    """
    device = training.group.device
    state = torch.load(folder / STATE, map_location=device, weights_only=True)
    training.optimizer.load_state_dict(state["optimizer"])
    if training.scaler.is_enabled() and state["scaler"]:
        training.scaler.load_state_dict(state["scaler"])
    training.loader.load_state_dict(resumed.loader)
