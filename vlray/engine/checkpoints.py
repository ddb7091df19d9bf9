"""Write the checkpoints of a training, and resume from the last one.

Besides the model's own files, a checkpoint contains ``training.json`` and ``state.pt``.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch

from vlray.config.train import TrainConfig
from vlray.engine.training import Training, TrainingProgress
from vlray.loader.sampler import LoaderState
from vlray.loader.word_pieces import TOKENIZER
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.checksums import STATE, DamagedCheckpointError, verify
from vlray.models.load import is_built_in
from vlray.models.plain import card, notes
from vlray.models.protocol import VisionLanguageModel
from vlray.models.store import CheckpointStore, Which
from vlray.runs.metrics import Record
from vlray.settings.options import flatten
from vlray.version import __version__

log = logging.getLogger("vlray.engine")

FILE = "training.json"

MAY_DIFFER = (
    "project",
    "output",
    "regions",
    "env.",
    "data.",
    "cluster.",
    "watch.",
    "hooks",
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
"""Options that may differ in a resumed run: locations, hardware, early stopping, how often to
evaluate, save and log, and options that change only rounding. Regions are compared by provenance
instead of path."""

LENGTH = ("training.steps", "training.epochs")
"""Options that may also differ if the training has not ended; the schedule is then recomputed."""


@dataclass(frozen=True)
class Resumed:
    """State of the interrupted run, except for the parameters and the optimizer."""

    settings: dict[str, Any]
    progress: TrainingProgress
    loader: LoaderState
    """State dict of the loader."""

    new_parameters: tuple[str, ...]
    """Names of the parameters that were not loaded from ``model.weights`` in the first run."""

    history: list[Record]
    """Logged records (`vlray.runs.metrics.Record`)."""

    @classmethod
    def read(cls, store: CheckpointStore, which: Which = "last") -> Self | None:
        """Read the state from a checkpoint; return None if there is no checkpoint.

        Raises:
            ValueError: The checkpoint has no valid training state.
        """
        if not store.step_folder(which):
            return None
        try:
            values = json.loads(store.read(which, FILE))
            progress = TrainingProgress(**values.pop("progress"))
            names = tuple(values.pop("new_parameters"))
            return cls(progress=progress, new_parameters=names, **values)
        # Files from other versions may have other fields, hence TypeError and KeyError.
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"cannot resume from the {which} checkpoint in {store.output} ({error}); pass "
                "another OUT, and the best or last checkpoint as --weights"
            ) from error


def find_whole(store: CheckpointStore) -> tuple[Which, Path] | None:
    """Return the newest undamaged checkpoint and its local folder; None if there is none yet.

    Raises:
        DamagedCheckpointError: The last checkpoint is damaged, and the best one is the same or is
            damaged too.
        ValueError: The output is not that of a training.
    """
    if not store.step_folder("last"):
        store.check_free()
        return None
    last = store.locate("last")
    try:
        verify(last, with_state=True)
    except DamagedCheckpointError as error:
        if store.step_folder("best") in ("", last.name):
            raise DamagedCheckpointError(
                f"{error}. There is no older checkpoint in {store.output} to resume from; start "
                "again in another OUT"
            ) from error
        best = store.locate("best")
        verify(best, with_state=True)
        if not (best / STATE).is_file():
            raise
        log.warning("%s; resuming from the older checkpoint %s", error, best)
        return "best", best
    return "last", last


def check_same(config: TrainConfig, resumed: Resumed) -> None:
    """Check that the settings are the same as when the training began.

    Options in `MAY_DIFFER` are ignored, and `LENGTH` unless the training has ended.

    Raises:
        ValueError: Some of the other options differ; the message lists them.
    """
    before, now = flatten(resumed.settings), flatten(config.resolved())
    may_differ = MAY_DIFFER if resumed.progress.ended else (*MAY_DIFFER, *LENGTH)
    lines = [
        f"  {'.'.join(path)}: {before.get(path)} there, {now.get(path)} here"
        for path in sorted({*before, *now})
        if not ".".join(path).startswith(may_differ) and before.get(path) != now.get(path)
    ]
    if lines:
        raise ValueError(
            f"{config.output} has a training with other settings:\n" + "\n".join(lines) + "\n"
            "Pass its settings to resume it; or another OUT, with --weights "
            f"{config.output} to start from its model"
        )


def has_other_length(config: TrainConfig, resumed: Resumed) -> bool:
    """Return whether ``training.steps`` or ``training.epochs`` differs from the interrupted run."""
    before, now = flatten(resumed.settings), flatten(config.resolved())
    return any(
        before.get(path) != now.get(path) for path in (tuple(name.split(".")) for name in LENGTH)
    )


def save(training: Training, hook_states: dict[str, Any], *, is_best: bool) -> str:
    """Write a checkpoint; only the first worker does so, as all workers have the same state.

    Returns:
        The folder or URI of the checkpoint, on all workers.
    """
    step_folder = training.store.location(training.progress.step)
    if training.watch is None:
        return step_folder
    config, data, progress = training.config, training.data, training.progress
    # A checkpoint keeps its vocabulary: the file of the user may be changed or moved.
    tokenizer = TOKENIZER if data.loader.tokenizer else ""
    info = CheckpointInfo(
        vlray_version=__version__,
        model=config.model,
        goal=data.goal,
        loader=data.loader.model_copy(update={"tokenizer": tokenizer}),
        corpus=config.corpus,
        regions=data.regions,
        provenance=data.provenance,
        step=progress.step,
        epoch=training.epoch(),
        metrics=progress.metrics,
        most_frequent=data.most_frequent,
    )
    state_before = Resumed(
        config.resolved(),
        progress,
        training.loader.state_dict(),
        tuple(sorted(training.new_parameters)),
        training.watch.history,
    )
    tensors = {
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        "hooks": hook_states,
    }

    def write(folder: Path) -> None:
        cast(VisionLanguageModel, training.model).save(folder)
        info.write(folder)
        if is_built_in(config.model, data.goal):
            network_class = type(training.model.network).__name__
            sentences = notes(config.model, data.goal)
            (folder / "README.md").write_text(card(info, sentences, network_class), "utf-8")
        if tokenizer:
            data.train.collate.tokenizer.save(folder)
        (folder / FILE).write_text(json.dumps(asdict(state_before)) + "\n", encoding="utf-8")
        torch.save(tensors, folder / STATE)

    training.store.save(progress.step, write, is_best=is_best)
    return step_folder


def restore(training: Training, resumed: Resumed, folder: Path) -> dict[str, Any]:
    """Restore the optimizer, the gradient scaler and the loader from a checkpoint.

    Args:
        training: A new training. Its model has already been loaded from the checkpoint.
        resumed: State of the interrupted run, read from the checkpoint.
        folder: Folder of the checkpoint.

    Returns:
        The states of the hooks, by name.
    """
    device = training.group.device
    # weights_only: a pickle with arbitrary objects could run code when it is loaded.
    state = torch.load(folder / STATE, map_location=device, weights_only=True)
    training.optimizer.load_state_dict(state["optimizer"])
    # The interrupted run may have used another precision, and thus no scaler.
    if training.scaler.is_enabled() and state["scaler"]:
        training.scaler.load_state_dict(state["scaler"])
    training.loader.load_state_dict(resumed.loader)
    states: dict[str, Any] = state.get("hooks", {})  # older checkpoints have none
    return states
