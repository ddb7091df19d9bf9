"""List the images in a directory, a list file or a bucket."""

from __future__ import annotations

import codecs
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
from pyarrow.fs import FileType

from vlray.images.ids import image_ids
from vlray.images.splits import choose_splits, is_split
from vlray.images.walk import EXTENSIONS, Walk, is_below_match, matcher
from vlray.storage import files
from vlray.storage.fingerprint import Fingerprint, of_paths

LIST_EXTENSIONS = frozenset((".txt", ".lst", ".list"))
AT_ONCE = 1 << 16  # rows converted to Arrow at a time

LISTING = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("file_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
"""Columns of a listing; ``file_bytes`` and ``mtime_ns`` are the fingerprint of the file."""

_FILE = ("path", "file_bytes", "mtime_ns")


@dataclass(frozen=True, eq=False)
class Listing:
    """The images found below a root.

    Attributes:
        root: Folder or URI that the paths are relative to.
        dataset: Name of the directory, or stem of the list file or single image.
        table: One row per image with the schema `LISTING`, sorted by path. Paths from a list file
            may be absolute paths or URIs; ``files.locate(root, path)`` resolves them. Bytes that
            are not UTF-8 are escaped as in ``files.escape_bytes``.
        skipped: Number of non-image files in the directory, keyed by lower-case extension.
        excluded: Number of files and folders, or of lines of a list file, that a pattern leaves
            out.
        unreadable: Folders that cannot be listed, relative to the root.
    """

    root: str
    dataset: str
    table: pa.Table
    skipped: Counter[str] = field(default_factory=Counter)
    excluded: int = 0
    unreadable: tuple[str, ...] = ()


def list_images(
    root: str,
    *,
    id_rule: str = "stem",
    split: tuple[str, ...] = (),
    follow_symlinks: bool = True,
    leave_out: str = "",
    exclude: Collection[str] = (),
) -> Listing:
    """List the images below a root, sorted by path.

    Args:
        root: A directory, a list file (``.txt``, ``.lst``, ``.list``), a single image file, or
            the URI of any of these. A list file has one path per line: relative to the folder of
            the list file, absolute, or a URI. Hidden files and folders (``.name``) are ignored.
        id_rule: Rule that derives an id from a path; see ``image_ids``.
        split: Splits to list; empty: all. A top-level folder such as ``train``, ``val2017`` or
            ``test1`` is a split. ``train`` also matches ``train2017`` if no other folder begins
            with ``train``. If there are no such folders, a single name becomes the split of all
            images.
        follow_symlinks: Whether to follow symbolic links to folders. Links to files are always
            followed.
        leave_out: Folder or URI below the root to skip, such as the output folder. The root itself
            is never skipped.
        exclude: Patterns of names, or of paths below a directory or in a list file, to leave out.
            In a directory, ``walk.EXCLUDED`` is left out, too.

    Raises:
        FileNotFoundError: The root does not exist.
        ValueError: The root is a file of another type, there are no images, a split is unknown, a
            list file repeats a path, the id rule does not apply, or two files have the same id.
    """
    fs, path = files.resolve(root)
    with files.explained(root):
        kind = fs.get_file_info(path).type
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"{root} does not exist; pass a directory, a list file or an image")
    skipped: Counter[str] = Counter()
    excluded, unreadable = 0, list[str]()
    if kind == FileType.Directory:
        folder, dataset = path if files.is_local(fs) else root, posixpath.basename(path)
        left_out = files.resolve(leave_out)[1] if leave_out else ""
        walk = Walk(fs, path, follow_symlinks=follow_symlinks, leave_out=left_out, exclude=exclude)
        with files.explained(root):
            below, rest = choose_splits(set(filter(is_split, walk.folders())), split)
            entries, skipped = _sorted(walk.images(below)), walk.skipped
        excluded, unreadable = walk.excluded, walk.unreadable
    else:
        folder, name = files.parent(path if files.is_local(fs) else root)
        dataset, extension = posixpath.splitext(name)
        if extension.lower() in LIST_EXTENSIONS:
            listed = sorted(_read_list(files.read_bytes(fs, path), root, folder))
            match = matcher(exclude)
            paths = [path for path in listed if not is_below_match(path, match)]
            excluded = len(listed) - len(paths)
        elif extension.lower() in EXTENSIONS:
            paths = [files.escape_bytes(name)]
        else:
            raise ValueError(
                f"{root} is not a directory, an image ({_names(EXTENSIONS)}) or a list file "
                f"({_names(LIST_EXTENSIONS)})"
            )
        # There is no folder to scan, so the listed paths tell which split folders exist.
        tops = {path.partition("/")[0] for path in paths if "/" in path}
        below, rest = choose_splits(set(filter(is_split, tops)), split)
        if below:
            paths = [path for path in paths if path.partition("/")[0] in below]
        entries = _entries(zip(paths, of_paths(folder, paths), strict=True))
    paths = entries["path"].to_pylist()
    if not paths:
        raise ValueError(_describe_nothing(root, below, skipped, excluded, unreadable))
    ids = pa.array(image_ids(paths, id_rule), pa.string())
    splits = pa.array([_split_of(path, rest) for path in paths], pa.string())
    columns = [ids, entries["path"], splits, entries["file_bytes"], entries["mtime_ns"]]
    return Listing(
        folder,
        dataset or "images",
        pa.table(columns, schema=LISTING),
        skipped,
        excluded,
        tuple(unreadable),
    )


def _sorted(entries: Iterable[tuple[str, Fingerprint]]) -> pa.Table:
    return _entries(entries).sort_by("path").combine_chunks()


def _entries(entries: Iterable[tuple[str, Fingerprint]]) -> pa.Table:
    """Build a table of paths and fingerprints, batch by batch to hold few Python objects."""
    remaining, schema = iter(entries), pa.schema([LISTING.field(name) for name in _FILE])
    batches = []
    while some := list(islice(remaining, AT_ONCE)):
        columns = [[path, *fingerprint] for path, fingerprint in some]
        arrays = map(pa.array, zip(*columns, strict=True), schema.types)
        batches.append(pa.record_batch(list(arrays), schema=schema))
    return pa.Table.from_batches(batches, schema)


def _split_of(path: str, rest: str) -> str:
    top, slash, _ = path.partition("/")
    return top if slash and is_split(top) else rest


def _read_list(data: bytes, root: str, folder: str) -> list[str]:
    """Return the paths in a list file; absolute paths below its folder become relative."""
    # Some Windows programs save text as UTF-16.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    text = data.removeprefix(codecs.BOM_UTF8).decode(encoding, "surrogateescape")
    below = folder.rstrip("/") + "/"
    lines: dict[str, int] = {}
    # Not splitlines(): a file name may contain U+2028 and the like.
    for number, line in enumerate(text.split("\n"), start=1):
        path = line.removesuffix("\r")
        if not path or path.isspace():
            continue
        if not path.isascii():
            path = files.escape_bytes(path)
        if files.is_uri(path):
            files.check_scheme(path)
        else:
            path = posixpath.normpath(path.removeprefix(below))
        if path in lines:
            raise ValueError(
                f"{root}: line {number} names {path!r} again, after line {lines[path]}; "
                "remove one of the lines, because an image has one id and one row"
            )
        lines[path] = number
    return list(lines)


def _names(extensions: Iterable[str]) -> str:
    return " ".join(sorted(extensions))


def _describe_nothing(
    root: str,
    below: Collection[str],
    skipped: Counter[str],
    excluded: int,
    unreadable: Collection[str],
) -> str:
    where = f"{root} ({', '.join(sorted(below))})" if below else root
    kinds = ", ".join(f"{n:,} {name or 'without extension'}" for name, n in skipped.most_common(5))
    content = f"{skipped.total():,} other files ({kinds})" if skipped else "no files at all"
    if excluded:
        content = f"{content} besides {excluded:,} that patterns leave out (--exclude)"
    if unreadable:
        content = f"{content}, and folders that cannot be listed ({', '.join(unreadable)[:100]})"
    return f"no images in {where}: it has {content}; images end in {_names(EXTENSIONS)}"
