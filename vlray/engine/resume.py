"""What a training goes on from: ``training.json`` and ``state.pt`` in its last checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from vlray.config.options import flatten
from vlray.config.train import TrainConfig
from vlray.engine.loop import Progress
from vlray.models.store import STATE, CheckpointStore

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

    def write(self, folder: Path, state: dict[str, Any]) -> None:
        """Write it into a checkpoint.

        Args:
            folder: Of the checkpoint.
            state: Of the optimizer and the scaler.
        """
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        torch.save(state, folder / STATE)

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
        f"  {name}: {before.get(name)} there, {now.get(name)} here"
        for name in (".".join(path) for path in sorted({*before, *now}))
        if not name.startswith(MAY_DIFFER)
        and before.get(tuple(name.split("."))) != now.get(tuple(name.split(".")))
    ]
    if lines:
        raise ValueError(
            f"{config.output} has a training of other settings:\n" + "\n".join(lines) + "\n"
            "Give these settings to go on with it; or another OUT, with --weights "
            f"{config.output} to start from its model"
        )
