"""Describe a file or folder that no reader recognizes, and find the nearest formats."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vlray.config.formats import FORMATS, READ
from vlray.formats.readers.checked import list_files
from vlray.formats.readers.lines import first_lines
from vlray.formats.readers.streams import is_plain
from vlray.formats.readers.torch_file import is_torch_file
from vlray.settings.wording import counted

NEAREST = 3
_SHOWN = 8  # names in a description
_HEAD = 16  # bytes
_MAGIC: dict[bytes, tuple[str, str]] = {
    b"\x89HDF\r\n\x1a\n": ("hdf5", "an HDF5 file"),
    b"\x93NUMPY": ("npy", "a NumPy array (.npy)"),
    b"PAR1": ("parquet", "a Parquet file"),
    b"ARROW1": ("arrow", "an Arrow file; the formats with Arrow are streams"),
    b"\xff\xff\xff\xff": ("arrow", "an Arrow stream"),
    b"\x28\xb5\x2f\xfd": ("text", "a file compressed with zstd"),
    b"\x1f\x8b": ("text", "a file compressed with gzip"),
    b"BZh": ("text", "a file compressed with bzip2; decompress it first"),
    b"\xfd7zXZ": ("text", "a file compressed with xz; decompress it first"),
    b"SQLite format 3": ("", "an SQLite database"),
    b"PK\x03\x04": ("npz", "a zip archive"),
    b"\x80\x02": ("torch", "a Python pickle"),
    b"\x80\x03": ("torch", "a Python pickle"),
    b"\x80\x04": ("torch", "a Python pickle"),
    b"\x80\x05": ("torch", "a Python pickle"),
}


@dataclass(frozen=True)
class Description:
    """What a file or folder looks like.

    Attributes:
        text: A phrase for messages, such as "an HDF5 file with a, b, c at its top level".
        container: Kind of file, as in the table of formats; empty if unknown.
        names: Names of arrays, columns or entries.
    """

    text: str
    container: str = ""
    names: tuple[str, ...] = ()


def describe(source: Path) -> Description:
    """Describe a file or folder by its content."""
    try:
        return _of_folder(source) if source.is_dir() else _of_file(source)
    except OSError as error:
        return Description(f"a file that cannot be read ({error})")


def nearest(description: Description) -> list[str]:
    """Return the formats that are most similar, the most similar first.

    A format of the same kind of file is nearer than any other; among those, the one that shares
    most names.
    """
    names = {name.lower() for name in description.names}

    def distance(name: str) -> tuple[bool, float]:
        info = FORMATS[name]
        fields = set(info.fields.lower().split())
        shared = len(fields & names) / max(len(fields | names), 1)
        return info.container != description.container, -shared

    return sorted(READ, key=distance)[:NEAREST]


def _of_folder(source: Path) -> Description:
    _, names = list_files(source, "")
    if not names:
        return Description("an empty folder")
    endings = Counter(Path(name).suffix.lower() or "no ending" for name in names)
    text = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(4))
    # The most frequent kind of file decides, judged by its first file.
    ending = endings.most_common(1)[0][0]
    first = next(n for n in names if (Path(n).suffix.lower() or "no ending") == ending)
    inner = _of_file(source / first)
    return Description(
        f"a folder of {counted(len(names), 'file')} ({text}); {first} is {inner.text}",
        inner.container,
        inner.names,
    )


def _of_file(path: Path) -> Description:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return Description("an empty file")
    if is_torch_file(path):
        return Description("a file of torch.save", "torch")
    for magic, (container, text) in _MAGIC.items():
        if head.startswith(magic):
            names = tuple(islice(_names_in(path, container), 64))
            if container == "text" and (inner := _of_text(path)) is not None:
                return Description(f"{text}: {inner.text}", inner.container, inner.names)
            return Description(text + _listed(" with ", names), container, names)
    if _is_tar(path):
        return Description("a tar archive", "tar")
    text_description = _of_text(path)
    return text_description or Description("a binary file of unknown kind")


def _of_text(path: Path) -> Description | None:
    """Describe a text file by its first line; None if it is not text."""
    lines = first_lines(path, 1)
    if not lines:
        return None if is_plain(path) else Description("damaged, or not text")
    line = lines[0]
    if line.lstrip()[:1] in (b"{", b"["):
        names = _json_names(line)
        return Description("JSON" + _listed(" with the keys ", names), "json", names)
    columns = line.split(b"\t")
    if len(columns) > 1:
        words = tuple(column[:40].decode("utf-8", "replace") for column in columns)
        names = tuple(word for word in words if word.isidentifier())
        shown = ", ".join(repr(word[:20]) for word in words[:_SHOWN])
        return Description(f"text with {len(columns)} columns ({shown})", "text", names)
    try:
        start = line[:40].decode()
    except UnicodeDecodeError:
        return None
    return Description(f"text that begins with {start!r}", "text")


def _json_names(line: bytes) -> tuple[str, ...]:
    """Return the first keys of a document that fits in one line; empty if it does not."""
    try:
        value = json.loads(line[: 1 << 20])
    except (ValueError, RecursionError):
        return ()
    value = value[0] if isinstance(value, list) and value else value
    return tuple(map(str, value)) if isinstance(value, dict) else ()


def _names_in(path: Path, container: str) -> Iterator[str]:
    """Yield the names of arrays or columns in a file; damage ends the list."""
    try:
        if container == "hdf5":
            import h5py

            with h5py.File(path, "r") as file:
                for name in islice(file, _SHOWN):
                    yield str(name)
                first = next(iter(file.values()), None)
                yield from map(str, first if isinstance(first, h5py.Group) else ())
        elif container == "npz":
            with zipfile.ZipFile(path) as archive:
                yield from (name.removesuffix(".npy") for name in archive.namelist())
        elif container == "parquet":
            import pyarrow.parquet as pq

            yield from pq.read_schema(path).names
        elif container == "arrow":
            import pyarrow as pa

            with pa.memory_map(str(path)) as mapped:
                yield from pa.ipc.open_stream(mapped).schema.names
    except Exception:  # any library may raise anything on a file that is not what it seems
        return


def _listed(prefix: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return prefix + ", ".join(names[:_SHOWN]) + more


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"
