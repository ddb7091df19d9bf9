"""The local copy of an output that is quick to read: flat files, and an index of what is in them.

::

    CACHE/regions/<digest of the output's place>/
        index.json            what is unpacked, of which parts; replaced last, in one step
        <token>.feats         vectors of all regions, one after the other, in the stored dtype
        <token>.boxes         their boxes, four float32 each
        <token>.labels        their classes and attributes, a ``LABEL`` each
        <token>.arrow         the images: id, size, number of regions, place of the first one

The flat files only ever grow: what lies beyond the regions that the index counts does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.storage import files
from vlray.storage.locks import locked

VERSION = 1
INDEX = "index.json"
LABEL = np.dtype(
    [("obj_ids", "<i4"), ("obj_probs", "<f4"), ("attr_ids", "<i4"), ("attr_probs", "<f4")]
)
BOX_BYTES = 16

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("image_hw", pa.list_(pa.int32(), 2)),
        ("num_boxes", pa.int32()),
        ("first", pa.int64()),
    ]
)

Stamp = tuple[str, int, int]
"""Name, size in bytes and time of the last change (ns) of a part: a part that has the same three
is the same."""


@dataclass(frozen=True)
class Index:
    """What is in a folder of the cache.

    Attributes:
        output: The place of the output, for people who look at the folder.
        about: The content of the output's ``vlray.json``.
        parts: Stamps of the parts that are unpacked, in the order in which they were.
        provenance: What the parts say of the detector.
        labels: Which of the columns of ``LABEL`` any image has.
        flat: Token of the flat files.
        table: Token of the images' table.
    """

    output: str
    about: dict[str, Any]
    parts: tuple[Stamp, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    obj_names: tuple[str, ...] = ()
    attr_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    feature_dim: int = 0
    feature_dtype: str = "float16"
    images: int = 0
    regions: int = 0
    flat: str = ""
    table: str = ""
    version: int = VERSION

    @property
    def feature_bytes(self) -> int:
        """Size of one vector, bytes."""
        return self.feature_dim * np.dtype(self.feature_dtype).itemsize

    def flat_sizes(self) -> dict[str, int]:
        """Say how long each flat file is at least, bytes."""
        widths = {"feats": self.feature_bytes, "boxes": BOX_BYTES, "labels": LABEL.itemsize}
        return {f"{self.flat}.{kind}": width * self.regions for kind, width in widths.items()}


def folder_of(cache_dir: Path, fs: pafs.FileSystem, root: str, uri: str) -> Path:
    """Give the folder of an output: by its place, whichever way that is written."""
    place = os.path.realpath(root) if files.is_local(fs) else f"{fs.type_name}://{root}"
    if not files.is_local(fs):  # the same name on another server is another output
        options = uri.partition("?")[2]
        place += f"?{options} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    return cache_dir / "regions" / hashlib.sha256(place.encode()).hexdigest()[:20]


def load_index(folder: Path) -> Index | None:
    """Read the index; None where there is none, or the flat files are not those it speaks of."""
    try:
        found = json.loads((folder / INDEX).read_bytes())
        if found.pop("version") != VERSION:
            return None
        names = ("obj_names", "attr_names", "labels")
        stamps = tuple((name, size, changed) for name, size, changed in found.pop("parts"))
        index = Index(parts=stamps, **(found | {name: tuple(found[name]) for name in names}))
        complete = all(
            (folder / name).stat().st_size >= size for name, size in index.flat_sizes().items()
        )
        return index if complete and (folder / f"{index.table}.arrow").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_index(folder: Path, index: Index) -> None:
    """Replace the index in one step, and remove the files that no index speaks of any more."""
    data = json.dumps(asdict(index), ensure_ascii=False).encode()
    files.write_atomic(pafs.LocalFileSystem(), str(folder / INDEX), data)
    remove_strangers(folder, index)


def remove_strangers(folder: Path, index: Index | None) -> None:
    """Remove what killed processes and older versions left. Only for who holds the lock.

    Processes that have such a file open go on reading it.
    """
    known = {INDEX, ".lock"}
    if index is not None:
        known |= {*index.flat_sizes(), f"{index.table}.arrow"}
    for file in folder.iterdir():
        if file.name not in known:
            file.unlink(missing_ok=True)


def save_images(folder: Path, token: str, images: pa.Table) -> None:
    """Write the table of images as an Arrow file that is read in place."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, IMAGES) as writer:
        writer.write_table(images.combine_chunks())
    files.write_atomic(pafs.LocalFileSystem(), str(folder / f"{token}.arrow"), sink.getvalue())


def load_images(folder: Path, token: str) -> pa.Table:
    """Map the table of images into memory."""
    return pa.ipc.open_file(pa.memory_map(str(folder / f"{token}.arrow"))).read_all()


@contextlib.contextmanager
def only_builder(folder: Path) -> Iterator[None]:
    """Wait until no other process builds here; the lock goes with the process that holds it.

    Raises:
        OSError: The folder cannot be made or written to, or its file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_held = stack.enter_context(locked(folder / ".lock"))
        except OSError as error:
            raise OSError(
                error.errno,
                f"regions cannot be unpacked there ({error.strerror}); give data.cache_dir a local "
                "folder that you may write to",
                str(folder),
            ) from error
        if not is_held:
            raise OSError(
                errno.ENOLCK,
                "its file system has no locks; give data.cache_dir a folder on a local disk",
                str(folder),
            )
        yield
