"""What a training tells Ray Train, and what it learns of nodes that are about to go."""

from __future__ import annotations

import math
import time
from pathlib import Path

from vlray.engine.group import Group, in_ray_train

RAY_FOLDER = "ray"
"""Name of Ray Train's folder in the run folder."""

POLL_S = 10.0
"""Seconds between questions for preempted nodes. All workers ask together, which takes
milliseconds."""


def report(metrics: dict[str, float], run_folder: Path, step_folder: str, group: Group) -> None:
    """Report metrics to Ray Train, if this is one of its workers; all workers must call this.

    Ray Train gets no copy of a checkpoint, but a folder with its location, which the dashboard and
    ``Result.checkpoint`` show.

    Args:
        metrics: The metrics.
        run_folder: Folder of the run; Ray Train's own files are in its folder ``ray``.
        step_folder: Folder or URI of a checkpoint that has been saved, or "".
        group: All workers.
    """
    if not in_ray_train():
        return
    import ray.train
    from ray.train import Checkpoint, CheckpointUploadMode

    pointer = None
    if step_folder and group.rank == 0:
        folder = run_folder.absolute() / RAY_FOLDER / Path(step_folder).name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "location.txt").write_text(f"{step_folder}\n", encoding="utf-8")
        pointer = Checkpoint(str(folder))
    ray.train.report(metrics, pointer, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


class Preemption:
    """Notices that a node with a worker is about to go, so that a checkpoint is saved before."""

    def __init__(self) -> None:
        """Begin with no node about to go."""
        self._asked_at = time.monotonic() if in_ray_train() else math.inf
        self._is_known = False

    def is_due(self) -> bool:
        """Return whether this worker wants all workers to call `is_new`."""
        return not self._is_known and time.monotonic() >= self._asked_at + POLL_S

    def is_new(self) -> bool:
        """Return whether a node is about to go, once; all workers must call this together."""
        import ray.train

        self._asked_at = time.monotonic()
        self._is_known = ray.train.get_preemption_info() is not None
        return self._is_known
