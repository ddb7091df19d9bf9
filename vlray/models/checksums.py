"""Checksums of a checkpoint's files, so that a damaged file is refused instead of loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FILE = "checksums.json"
STATE = "state.pt"
"""File with the state of the optimizer, which a model loads without."""

_ADVICE = (
    "copy the checkpoint again from where it is whole, or pass another one (OUT/best, OUT/last)"
)


class DamagedCheckpointError(ValueError):
    """A file of a checkpoint is not what the training wrote."""


def write_checksums(folder: Path) -> None:
    """Write ``checksums.json``: the SHA-256 of each file in a checkpoint folder."""
    digests = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / FILE).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path, *, with_state: bool = False) -> None:
    """Compare the files of a checkpoint with their checksums.

    Checkpoints of earlier versions have no checksums, and pass.

    Args:
        folder: Local folder of the checkpoint.
        with_state: Whether ``state.pt`` must be present and undamaged too.

    Raises:
        DamagedCheckpointError: A file is missing or was changed; the message names it.
    """
    path = folder / FILE
    if not path.is_file():
        return
    try:
        digests = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is damaged ({error}); {_ADVICE}") from error
    for name, digest in digests.items():
        # It is twice as large as the model, and only a resumed training reads it.
        if name == STATE and not with_state:
            continue
        file = folder / name
        if not file.is_file():
            raise DamagedCheckpointError(f"{file} is missing; {_ADVICE}")
        if _sha256(file) != digest:
            raise DamagedCheckpointError(
                f"{file} is damaged: its content is not what the training wrote; {_ADVICE}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
