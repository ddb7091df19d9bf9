"""Local cache of an output for fast random access: flat files and an index.

::

    CACHE/regions/<digest of the output's location>/
        index.json            the unpacked parts; written last, atomically
        <token>.feats         feature vectors of all regions, in the stored dtype
        <token>.boxes         boxes of all regions, four float32 values per region
        <token>.labels        classes and attributes of all regions, one ``LABEL`` per region
        <token>.arrow         the images: id, size, number of regions, index of the first region

The flat files only grow. Data after the last region that the index counts is ignored.
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

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.regions.schema import Identity, Provenance
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
"""Name, size in bytes and modification time (ns) of a part; equal if the part is unchanged."""


@dataclass(frozen=True)
class Index:
    """Content of a cache folder.

    Attributes:
        output: Location of the output, for messages and for people who look at the folder.
        about: Content of the output's ``vlray.json``.
        parts: Stamps of the unpacked parts, in the order in which they were unpacked.
        provenance: Provenance from the metadata of the first part.
        obj_names: Names of the object classes, indexed by id.
        attr_names: Names of the attributes, indexed by id.
        labels: Columns of ``LABEL`` that at least one image has.
        feature_dim: Length of a feature vector; 0 if the output has no vectors.
        feature_dtype: Dtype of the stored vectors.
        images: Number of images.
        regions: Number of regions.
        flat: Token in the names of the flat files.
        table: Token in the name of the table of images.
        version: Version of the cache layout.
    """

    output: str
    about: Identity
    parts: tuple[Stamp, ...] = ()
    provenance: Provenance = field(default_factory=dict)
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
        """Size of one vector in bytes."""
        return self.feature_dim * np.dtype(self.feature_dtype).itemsize

    def flat_sizes(self) -> dict[str, int]:
        """Return the minimum size of each flat file in bytes, keyed by file name."""
        widths = {"feats": self.feature_bytes, "boxes": BOX_BYTES, "labels": LABEL.itemsize}
        return {f"{self.flat}.{kind}": width * self.regions for kind, width in widths.items()}


def folder_of(cache_dir: Path, fs: pafs.FileSystem, root: str, uri: str) -> Path:
    """Return the cache folder for an output; two spellings of one location share a folder."""
    location = os.path.realpath(root) if files.is_local(fs) else f"{fs.type_name}://{root}"
    if not files.is_local(fs):  # buckets on different servers may have the same name
        options = uri.partition("?")[2]
        location += f"?{options} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    return cache_dir / "regions" / hashlib.sha256(location.encode()).hexdigest()[:20]


def load_index(folder: Path) -> Index | None:
    """Read the index; return None if it is invalid, or any file is missing or too short."""
    try:
        saved = json.loads((folder / INDEX).read_bytes())
        if saved.pop("version") != VERSION:
            return None
        names = ("obj_names", "attr_names", "labels")
        stamps = tuple((name, size, changed) for name, size, changed in saved.pop("parts"))
        index = Index(parts=stamps, **(saved | {name: tuple(saved[name]) for name in names}))
        # Files may be longer, if a process was killed after it appended data and before it saved
        # the index.
        complete = all(
            (folder / name).stat().st_size >= size for name, size in index.flat_sizes().items()
        )
        return index if complete and (folder / f"{index.table}.arrow").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        # An invalid index is treated as missing, so the cache is rebuilt.
        return None


def save_index(folder: Path, index: Index) -> None:
    """Replace the index atomically, and remove files that the new index does not list."""
    data = json.dumps(asdict(index), ensure_ascii=False).encode()
    files.write_atomic(pafs.LocalFileSystem(), str(folder / INDEX), data)
    # Old files are removed only after the new index is in place.
    remove_stale_files(folder, index)


def remove_stale_files(folder: Path, index: Index | None) -> None:
    """Remove files from killed processes and older indices. The caller must hold the lock.

    Processes that have such a file open can still read it.
    """
    current = {INDEX, ".lock"}
    if index is not None:
        current |= {*index.flat_sizes(), f"{index.table}.arrow"}
    for file in folder.iterdir():
        if file.name not in current:
            file.unlink(missing_ok=True)


def save_images(folder: Path, token: str, images: pa.Table) -> None:
    """Write the table of images as an Arrow file, which can be memory-mapped."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, IMAGES) as writer:
        writer.write_table(images.combine_chunks())
    files.write_atomic(pafs.LocalFileSystem(), str(folder / f"{token}.arrow"), sink.getvalue())


def load_images(folder: Path, token: str) -> pa.Table:
    """Memory-map the table of images."""
    return pa.ipc.open_file(pa.memory_map(str(folder / f"{token}.arrow"))).read_all()


@contextlib.contextmanager
def hold_build_lock(folder: Path) -> Iterator[None]:
    """Hold the lock for unpacking into a cache folder; wait if another process holds the lock.

    The operating system releases the lock when the process ends.

    Raises:
        OSError: The folder cannot be created or written to, or the file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_held = stack.enter_context(locked(folder / ".lock"))
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot unpack regions into this folder ({error.strerror}); set data.cache_dir to "
                "a writable local folder",
                str(folder),
            ) from error
        if not is_held:
            raise OSError(
                errno.ENOLCK,
                "the file system of this folder does not support locks; set data.cache_dir to a "
                "folder on a local disk",
                str(folder),
            )
        yield
