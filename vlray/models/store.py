"""Checkpoints in the output folder (OUT) of a training, on a local disk or in object storage.

A step folder such as ``OUT/step-00000500/`` is either complete or absent. ``OUT/best`` and
``OUT/last`` each point to a step folder: with a symbolic link on a disk, with a small text file in
object storage. Other step folders are deleted. Each checkpoint has ``state.pt``, which is needed to
resume, and checksums of its files.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow.fs as pafs

from vlray.config.data import DataSection
from vlray.models.checkpoint import FILE
from vlray.models.checksums import write_checksums
from vlray.settings.atomic import TEMPORARY, discard, replacing
from vlray.storage import files

Which = Literal["best", "last"]
NAMES: tuple[Which, ...] = ("best", "last")
STEP = "step-"


class CheckpointStore:
    """Checkpoints in one output folder."""

    def __init__(self, output: str, cache: Path | None = None) -> None:
        """Open an output folder, which may not exist yet.

        Args:
            output: A local folder or a URI.
            cache: Local folder for checkpoints from object storage. None: vlray's cache.

        Raises:
            ValueError: The URI has a scheme that vlray does not support.
        """
        self.output = output
        self._fs, self._root = files.resolve(output)
        self._cache = cache or DataSection().cache_folder()

    def step_folder(self, which: Which) -> str:
        """Return the name of the step folder that ``best`` or ``last`` points to, or ``""``."""
        path = files.join(self._root, which)
        if files.is_local(self._fs):
            return Path(path).readlink().name if Path(path).is_symlink() else ""
        try:
            return files.read_bytes(self._fs, path).decode().strip()
        except FileNotFoundError:
            return ""

    def check_free(self) -> None:
        """Check that a new training may write into the folder.

        Raises:
            ValueError: The folder is an output of ``vlray extract`` or ``vlray convert``.
        """
        # A training has this file in the folders of its checkpoints only.
        path = files.join(self._root, FILE)
        if self._fs.get_file_info(path).type == pafs.FileType.File:
            raise ValueError(
                f"{self.output} has regions (vlray.json); pass another OUT for the training"
            )

    def read(self, which: Which, file: str) -> bytes:
        """Read one file of a checkpoint without downloading the other files.

        Raises:
            FileNotFoundError: The checkpoint or the file does not exist.
        """
        return files.read_bytes(self._fs, files.join(self._root, self.step_folder(which), file))

    def locate(self, which: Which) -> Path:
        """Return the local folder of a checkpoint; download it if it is in object storage.

        Raises:
            FileNotFoundError: The checkpoint does not exist.
        """
        name = self.step_folder(which)
        folder = files.join(self._root, name)
        if not name or self._fs.get_file_info(folder).type != pafs.FileType.Directory:
            raise FileNotFoundError(
                f"{self.output} has no {which} checkpoint; pass the OUT of a training that has "
                "saved one"
            )
        if files.is_local(self._fs):
            return Path(folder)
        return self._download(folder, name)

    def location(self, step: int) -> str:
        """Return the folder or URI of the checkpoint after a step."""
        return f"{self.output.rstrip('/')}/{STEP}{step:08d}"

    def save(self, step: int, write: Callable[[Path], None], *, is_best: bool) -> None:
        """Write a checkpoint, point ``last`` to it, and delete checkpoints no longer needed.

        Args:
            step: Number of training steps so far.
            write: Function that writes the files into an empty local folder.
            is_best: Whether to point ``best`` to this checkpoint too.

        Raises:
            OSError: The disk is full, or the storage is not writable.
        """
        name = f"{STEP}{step:08d}"

        def write_with_checksums(folder: Path) -> None:
            write(folder)
            write_checksums(folder)

        if files.is_local(self._fs):
            with replacing(Path(self._root, name)) as temporary:
                temporary.mkdir()
                write_with_checksums(temporary)
        else:
            # Object storage has no rename: an incomplete copy is ignored, as no name points to it.
            with tempfile.TemporaryDirectory(prefix="vlray-") as folder:
                write_with_checksums(Path(folder))
                self._copy(folder, None, files.join(self._root, name), self._fs)
        for which in ("best", "last") if is_best else ("last",):
            self._point(which, name)
        # Last: a crash before it leaves a folder too many, never a pointer to nothing.
        self.clean()

    def clean(self) -> None:
        """Delete leftovers from killed runs, and checkpoints that are neither best nor last."""
        if files.is_local(self._fs):
            for unfinished in Path(self._root).glob(f"{TEMPORARY}*"):
                discard(unfinished)
        current = {which: self.step_folder(which) for which in NAMES}
        # OUT may not exist yet.
        selector = pafs.FileSelector(self._root, allow_not_found=True)
        for entry in self._fs.get_file_info(selector):
            if entry.base_name.startswith(STEP) and entry.base_name not in current.values():
                self._fs.delete_dir(entry.path)

    def _point(self, which: Which, name: str) -> None:
        """Point ``best`` or ``last`` to a step folder."""
        if not files.is_local(self._fs):
            path = files.join(self._root, which)
            files.write_atomic(self._fs, path, f"{name}\n".encode())
            return
        with replacing(Path(self._root, which)) as temporary:
            # The link is relative, so OUT can be moved.
            temporary.symlink_to(name)

    def _download(self, folder: str, name: str) -> Path:
        """Copy a checkpoint from object storage into the cache, and return the local folder."""
        digest = hashlib.sha256(f"{self._fs.type_name}://{folder}".encode()).hexdigest()[:16]
        # Different trainings have step folders with equal names, so each OUT has a cache folder.
        target = self._cache / "checkpoints" / digest
        with replacing(target / name) as temporary:
            temporary.mkdir()
            self._copy(folder, self._fs, str(temporary), None)
        return target / name

    def _copy(
        self,
        source: str,
        source_fs: pafs.FileSystem | None,
        target: str,
        target_fs: pafs.FileSystem | None,
    ) -> None:
        with files.explained(self.output):
            pafs.copy_files(
                source,
                target,
                source_filesystem=source_fs or pafs.LocalFileSystem(),
                destination_filesystem=target_fs or pafs.LocalFileSystem(),
            )


def locate(output: str, which: Which = "best", cache: Path | None = None) -> Path:
    """Return the local folder of a checkpoint.

    Args:
        output: Output folder of a training, or one of its checkpoints, such as ``OUT/best``.
        which: Checkpoint to use, unless ``output`` is itself a checkpoint.
        cache: See `CheckpointStore`.

    Raises:
        FileNotFoundError: There is no such checkpoint.
    """
    store, which = _split(output, which, cache)
    return store.locate(which) if store else Path(output).expanduser().resolve()


def read_description(output: str, which: Which = "best", cache: Path | None = None) -> bytes | None:
    """Read the ``vlray.json`` of a checkpoint without downloading its other files.

    Args:
        output: See `locate`.
        which: See `locate`.
        cache: See `CheckpointStore`.

    Returns:
        The content of the file, or None if there is no such checkpoint.
    """
    store, which = _split(output, which, cache)
    if store is None:
        return (Path(output).expanduser() / FILE).read_bytes()
    return store.read(which, FILE) if store.step_folder(which) else None


def _split(output: str, which: Which, cache: Path | None) -> tuple[CheckpointStore | None, Which]:
    """Split a path into a checkpoint store and the name of a checkpoint in it.

    The store is None if the path is itself a local checkpoint folder.
    """
    if not files.is_uri(output) and (Path(output).expanduser() / FILE).is_file():
        return None, which
    parent, name = files.parent(output.rstrip("/"))
    if name in NAMES and files.is_uri(output):
        return CheckpointStore(parent, cache), "best" if name == "best" else "last"
    return CheckpointStore(output, cache), which
