"""The checkpoints of a training in its OUT, on a disk or in object storage.

``OUT/step-00000500/`` is complete or not there. ``OUT/best`` and ``OUT/last`` tell which of these
folders they are: links on a disk, in object storage files with the name in them. Folders that
neither of them tells of are deleted; what a resumed run needs (``state.pt``) is in the last alone.
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
from vlray.settings.atomic import TEMPORARY, discard, replacing
from vlray.storage import files

Which = Literal["best", "last"]
NAMES: tuple[Which, ...] = ("best", "last")
STATE = "state.pt"
STEP = "step-"


class CheckpointStore:
    """The checkpoints of one OUT."""

    def __init__(self, output: str, cache: Path | None = None) -> None:
        """Open an OUT, which need not be there yet.

        Args:
            output: A local folder or a URI.
            cache: Where those of object storage are kept on this machine; not given: in vlray's
                cache.

        Raises:
            ValueError: The URI is none that vlray reads.
        """
        self.output = output
        self._fs, self._root = files.resolve(output)
        self._cache = cache or DataSection().cache_folder()

    def step_folder(self, which: Which) -> str:
        """Give the name of the folder that ``best`` or ``last`` tells of; empty: there is none."""
        path = files.join(self._root, which)
        if files.is_local(self._fs):
            return Path(path).readlink().name if Path(path).is_symlink() else ""
        try:
            return files.read_bytes(self._fs, path).decode().strip()
        except FileNotFoundError:
            return ""

    def read(self, which: Which, file: str) -> bytes:
        """Read a file of a checkpoint, without copying the others.

        Raises:
            FileNotFoundError: There is none.
        """
        return files.read_bytes(self._fs, files.join(self._root, self.step_folder(which), file))

    def locate(self, which: Which) -> Path:
        """Give the folder of a checkpoint on this machine; object storage is copied from.

        Raises:
            FileNotFoundError: There is none.
        """
        name = self.step_folder(which)
        folder = files.join(self._root, name)
        if not name or self._fs.get_file_info(folder).type != pafs.FileType.Directory:
            raise FileNotFoundError(
                f"{self.output} has no {which} checkpoint; give the OUT of a vlray train that has "
                "saved one"
            )
        if files.is_local(self._fs):
            return Path(folder)
        return self._download(folder, name)

    def save(self, step: int, write: Callable[[Path], None], *, is_best: bool) -> None:
        """Write a checkpoint, which is then the last one, and delete what is no longer needed.

        Args:
            step: How many steps were made.
            write: Writes its files into an empty local folder.
            is_best: Whether it is the best one as well.

        Raises:
            OSError: The disk is full, or the storage cannot be written to.
        """
        name = f"{STEP}{step:08d}"
        if files.is_local(self._fs):
            with replacing(Path(self._root, name)) as temporary:
                temporary.mkdir()
                write(temporary)
        else:
            with tempfile.TemporaryDirectory(prefix="vlray-") as folder:
                write(Path(folder))
                self._copy(folder, None, files.join(self._root, name), self._fs)
        for which in ("best", "last") if is_best else ("last",):
            self._point(which, name)
        self.clean()

    def clean(self) -> None:
        """Delete what a killed run left, and checkpoints that are neither the best nor the last."""
        if files.is_local(self._fs):
            for unfinished in Path(self._root).glob(f"{TEMPORARY}*"):
                discard(unfinished)
        kept = {which: self.step_folder(which) for which in NAMES}
        selector = pafs.FileSelector(self._root, allow_not_found=True)
        for found in self._fs.get_file_info(selector):
            if found.base_name.startswith(STEP) and found.base_name not in kept.values():
                self._fs.delete_dir(found.path)
        if kept["best"] and kept["best"] != kept["last"]:
            files.remove(self._fs, files.join(self._root, kept["best"], STATE))

    def _point(self, which: Which, name: str) -> None:
        if not files.is_local(self._fs):
            path = files.join(self._root, which)
            files.write_atomic(self._fs, path, f"{name}\n".encode())
            return
        with replacing(Path(self._root, which)) as temporary:
            temporary.symlink_to(name)

    def _download(self, folder: str, name: str) -> Path:
        digest = hashlib.sha256(f"{self._fs.type_name}://{folder}".encode()).hexdigest()[:16]
        place = self._cache / "checkpoints" / digest
        with replacing(place / name) as temporary:
            temporary.mkdir()
            self._copy(folder, self._fs, str(temporary), None)
        return place / name

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
    """Give the folder of a checkpoint on this machine.

    Args:
        output: The OUT of a training; or a checkpoint itself, as ``OUT/best`` is, which is given
            whatever ``which`` says.
        which: ``best`` or ``last``.
        cache: As of `CheckpointStore`.

    Raises:
        FileNotFoundError: It is neither.
    """
    store, which = _place(output, which, cache)
    return store.locate(which) if store else Path(output).expanduser().resolve()


def described(output: str, which: Which = "best", cache: Path | None = None) -> bytes | None:
    """Give the ``vlray.json`` of a checkpoint, without copying the others of its files.

    Args:
        output: As of `locate`.
        which: As of `locate`.
        cache: As of `CheckpointStore`.

    Returns:
        What the file holds; None: there is no such checkpoint.
    """
    store, which = _place(output, which, cache)
    if store is None:
        return (Path(output).expanduser() / FILE).read_bytes()
    return store.read(which, FILE) if store.step_folder(which) else None


def _place(output: str, which: Which, cache: Path | None) -> tuple[CheckpointStore | None, Which]:
    """Tell the OUT and the name of a checkpoint in it; no OUT: the folder is a checkpoint."""
    if not files.is_uri(output) and (Path(output).expanduser() / FILE).is_file():
        return None, which
    above, name = files.parent(output.rstrip("/"))
    if name in NAMES and files.is_uri(output):
        return CheckpointStore(above, cache), "best" if name == "best" else "last"
    return CheckpointStore(output, cache), which
