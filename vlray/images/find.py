"""List the images in a directory, a list file or a bucket."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem, FileType

from vlray.images.ids import image_ids
from vlray.images.listing import LISTING, Listing
from vlray.images.sources import path_tables
from vlray.images.sources.directory import Walk
from vlray.images.sources.entry import (
    SEPARATOR,
    Entry,
    archive_kind,
    archive_stem,
    is_other_archive,
    sorted_table,
    split_member,
    to_table,
)
from vlray.images.sources.known import Archive, KnownMembers, key_of
from vlray.images.sources.list_file import LIST_EXTENSIONS, read_list
from vlray.images.sources.members import list_members
from vlray.images.sources.names import EXTENSION_NAMES, EXTENSIONS, NameFilter
from vlray.images.sources.patterns import expand, is_pattern
from vlray.images.splits import ALL, choose_splits, is_split, split_prefix
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.fingerprint import ABSENT, of_paths

LISTS = " ".join(sorted(LIST_EXTENSIONS))
NO_FOLDERS = "; web servers cannot list a folder"


@dataclass(frozen=True)
class _Wanted:
    """What the caller of `list_images` wants of a source."""

    split: tuple[str, ...]
    exclude: Collection[str]
    id_column: str
    known: KnownMembers


@dataclass
class _Found:
    """What a source has: its entries, before ids and splits are derived."""

    folder: str
    dataset: str
    entries: pa.Table
    split: str = ALL  # of images outside all split folders
    names: NameFilter = field(default_factory=NameFilter)
    unreadable: Sequence[str] = ()
    members: KnownMembers = field(default_factory=KnownMembers)
    unread: Sequence[str] = ()
    damaged: Sequence[tuple[str, str]] = ()


def list_images(
    root: str,
    *,
    id_rule: str = "stem",
    split: tuple[str, ...] = (),
    follow_symlinks: bool = True,
    leave_out: str = "",
    exclude: Collection[str] = (),
    id_column: str = "",
    known: KnownMembers | None = None,
) -> Listing:
    """List the images below a root, sorted by path.

    Args:
        root: A directory, a list file (``.txt``, ``.lst``, ``.list``), a single image file, an
            archive (``.tar``, ``.tar.gz``, ``.zip``), a Parquet file with image bytes, a pattern of
            such files (``shards/{000..123}.tar``, ``data/*.parquet``), or the URI of any of these.
            The archives of a directory are listed if it has no image files. A list file has one
            path per line: relative to the folder of the list file, absolute, or a URI. Hidden files
            and folders (``.name``) are ignored.
        id_rule: Rule that derives an id from a path; see ``image_ids``.
        split: Splits to list; empty: all. A top-level folder such as ``train``, ``val2017`` or
            ``test1`` is a split, and so is the beginning of an archive's name, as in
            ``train-00000.tar``. ``train`` also matches ``train2017`` if no other split begins with
            ``train``. If there are no splits, a single name becomes the split of all images.
        follow_symlinks: Whether to follow symbolic links to folders. Links to files are always
            followed.
        leave_out: Folder or URI below the root to skip, such as the output folder. The root itself
            is never skipped.
        exclude: Patterns of names, or of paths below a directory or in a list file, to leave out.
            In directories and archives, ``names.EXCLUDED`` is left out, too.
        id_column: Column of Parquet files with the ids; empty: see
            `vlray.images.sources.rows.entries`.
        known: `Listing.members` of an earlier listing; archives that have not changed since are
            not read.

    Raises:
        FileNotFoundError: The root does not exist.
        ValueError: The root is a file of another type, there are no images, a split is unknown, a
            list file repeats a path, the id rule does not apply, or two files have the same id.
    """
    wanted = _Wanted(split, exclude, id_column, known or KnownMembers())
    fs, path = files.resolve(root)
    with files.explained(root):
        kind = fs.get_file_info(path).type
    if kind == FileType.Directory:
        out = files.resolve(leave_out)[1] if leave_out else ""
        walk = Walk(fs, path, follow_symlinks=follow_symlinks, leave_out=out, exclude=exclude)
        found = _in_directory(root, fs, path, walk, wanted)
    elif kind == FileType.NotFound and is_pattern(root):
        found = _matching(root, wanted)
    elif kind == FileType.NotFound:
        raise FileNotFoundError(
            f"{root} does not exist; pass a directory, an image, an archive, a table, a list file "
            f"or a pattern of files{NO_FOLDERS if files.is_web(fs) else ''}"
        )
    else:
        found = _in_file(root, fs, path, wanted)
    paths = found.entries["path"].to_pylist()
    if not paths:
        raise ValueError(_describe_nothing(root, split, found))
    archives = len(found.members.archives)
    names, is_id = (found.entries[name].to_pylist() for name in ("name", "is_id"))
    if id_rule == "path" and archives > 1:
        names = list(map(_with_archive, names, paths, is_id))
    ids = pa.array(image_ids(names, id_rule, is_id, paths), pa.string())
    split_of = _split_of_member if archives else _split_of
    splits = pa.array([split_of(path) or found.split for path in paths], pa.string())
    columns = [ids, found.entries["path"], splits]
    columns += [found.entries[name] for name in ("file_bytes", "mtime_ns", "place")]
    return Listing(
        found.folder,
        found.dataset or "images",
        pa.table(columns, schema=LISTING),
        found.names.skipped,
        found.names.excluded,
        tuple(found.unreadable),
        archives,
        tuple(found.unread),
        tuple(found.damaged),
        found.members,
    )


def _in_directory(root: str, fs: FileSystem, path: str, walk: Walk, wanted: _Wanted) -> _Found:
    """List a directory: its image files, or, if there are none, the members of its archives."""
    folder, dataset = path if files.is_local(fs) else root, posixpath.basename(path)
    with files.explained(root):
        folders = set(filter(is_split, walk.folders()))
        # Without split folders, the names of archives may tell the splits.
        below, rest = choose_splits(folders, wanted.split) if folders else (frozenset(), ALL)
        entries = sorted_table(Entry(path, path, one) for path, one in walk.images(below))
    unread = sorted(path for path, _ in walk.archives)
    if unread and not entries.num_rows:
        if "vlray.json" in {path.rpartition("/")[2] for path in files.list_names(fs, path)}:
            raise ValueError(f"{root} is an output of vlray; pass the images it was made from")
        for archive in unread:
            walk.names.skipped[posixpath.splitext(archive)[1].lower()] -= 1
        walk.names.skipped += Counter()  # drops zeros
        if below:
            wanted = replace(wanted, split=())
        found = _in_archives(folder, dataset, walk.archives, wanted, walk.names)
    else:
        if not folders:
            rest = choose_splits(folders, wanted.split)[1]
        of_images = {one.rpartition("/")[0] for one in entries["path"].to_pylist()}
        # img2dataset writes a table beside each folder of images.
        unread = [one for one in unread if one.removesuffix(".parquet") not in of_images]
        found = _Found(folder, dataset, entries, rest, walk.names, unread=unread)
    found.unreadable = walk.unreadable
    return found


def _in_archives(
    folder: str,
    dataset: str,
    archives: Sequence[Archive],
    wanted: _Wanted,
    names: NameFilter,
) -> _Found:
    """List the members of archives.

    Raises:
        ValueError: None of the archives has images, because they are damaged or have no such files.
    """
    key = key_of(folder, wanted.exclude, wanted.id_column)
    known = wanted.known.archives if wanted.known.key == key else {}
    members = list_members(folder, sorted(archives), names, wanted.id_column, known)
    tables = [one.entries for one in members.values()]
    listed = pa.concat_tables(tables).sort_by("path").combine_chunks()
    # An archive itself is no image: it would stay in the plan after it has been repaired.
    is_archive = pc.ends_with(listed["path"], SEPARATOR)
    rows = listed.filter(is_archive).select(["path", "place"]).to_pylist()
    damaged = [(row["path"][:-1], row["place"].partition(" ")[2]) for row in rows]
    entries = listed.filter(pc.invert(is_archive))
    if damaged and not entries.num_rows:
        raise ValueError(f"{damaged[0][0]}: {damaged[0][1]}")
    listed_now = KnownMembers(key, members)
    found = _Found(folder, dataset, entries, ALL, names, (), listed_now, (), damaged)
    return _chosen_splits(found, wanted.split)


def _matching(root: str, wanted: _Wanted) -> _Found:
    """List the files of a pattern: archives, or images."""
    names = NameFilter(wanted.exclude)
    folder, matches = expand(root)
    dataset = posixpath.basename(folder.partition("?")[0].rstrip("/"))
    if not matches:
        raise FileNotFoundError(f"no file matches {root}")
    archives = [match for match in matches if archive_kind(match[0])]
    if missing := [path for path, one in archives if one == ABSENT]:
        raise FileNotFoundError(
            f"{root}: {counted(len(missing), 'file')} of {len(archives):,} "
            f"{'does' if len(missing) == 1 else 'do'} not exist, such as {missing[0]}"
        )
    if archives:
        return _in_archives(folder, dataset, archives, wanted, names)
    rows = (Entry(path, path, one) for path, one in matches if names.takes(path))
    return _Found(folder, dataset, sorted_table(rows), choose_splits((), wanted.split)[1], names)


def _in_file(root: str, fs: FileSystem, path: str, wanted: _Wanted) -> _Found:
    """List a single file: an archive, a list file or an image."""
    folder, name = files.parent(path if files.is_local(fs) else root)
    dataset, extension = posixpath.splitext(name)
    names = NameFilter(wanted.exclude)
    if extension.lower() in path_tables.EXTENSIONS or path_tables.is_path_table(fs, path):
        table = path_tables.read_table(fs, path, root)
        entries = sorted_table(path_tables.entries(table, root, folder, wanted.id_column))
        return _chosen_splits(_Found(folder, dataset, entries), wanted.split)
    if archive_kind(name):
        archive = (files.escape_bytes(name), of_paths(folder, [name])[0])
        return _in_archives(folder, archive_stem(name), [archive], wanted, names)
    if extension.lower() in LIST_EXTENSIONS:
        listed = sorted(read_list(files.read_bytes(fs, path), root, folder))
        names = NameFilter(wanted.exclude, always=())  # what a list names is wanted
        paths = [path for path in listed if not names.is_below_excluded(path)]
    elif extension.lower() in EXTENSIONS:
        paths = [files.escape_bytes(name)]
    elif is_other_archive(name):
        raise ValueError(
            f"{root}: vlray does not read such archives; unpack it and pass the folder"
        )
    else:
        raise ValueError(
            f"{root} is not a directory, an image ({EXTENSION_NAMES}), an archive (.tar .tar.gz "
            f".zip), a table (.parquet .csv .tsv) or a list file ({LISTS})"
            f"{NO_FOLDERS if files.is_web(fs) else ''}"
        )
    prints = of_paths(folder, paths)
    entries = to_table(Entry(path, path, one) for path, one in zip(paths, prints, strict=True))
    return _chosen_splits(_Found(folder, dataset, entries, ALL, names), wanted.split)


def _chosen_splits(found: _Found, split: tuple[str, ...]) -> _Found:
    """Keep the images of the chosen splits, which the listed paths and archives tell."""
    split_of = _split_of_member if found.members.archives else _split_of
    splits = [split_of(path) for path in found.entries["path"].to_pylist()]
    below, found.split = choose_splits({one for one in splits if one}, split)
    if below:
        found.entries = found.entries.filter(pa.array([one in below for one in splits], pa.bool_()))
    return found


def _with_archive(name: str, path: str, is_id: bool) -> str:
    """Return the name of a member below that of its archive, because others may have it too."""
    archive, _ = split_member(path)
    folder = archive.removesuffix(archive.rpartition("/")[2]) + archive_stem(archive)
    return name if is_id or not archive else f"{folder}/{name}"


def _split_of(path: str) -> str:
    top, slash, _ = path.partition("/")
    return top if slash and is_split(top) else ""


def _split_of_member(path: str) -> str:
    """Return the split that a folder, the archive's name or a folder in the archive names."""
    archive, member = split_member(path)
    return _split_of(path) or split_prefix(archive_stem(archive)) or _split_of(member)


def _describe_nothing(root: str, split: Collection[str], found: _Found) -> str:
    where = f"{root} ({', '.join(split)})" if split else root
    skipped = found.names.skipped
    kinds = ", ".join(f"{n:,} {name or 'without extension'}" for name, n in skipped.most_common(5))
    content = f"{skipped.total():,} other files ({kinds})" if skipped else "no files at all"
    if found.names.excluded:
        content += f" besides {found.names.excluded:,} that patterns leave out (--exclude)"
    if found.unreadable:
        names = ", ".join(found.unreadable)[:100]
        content += f", and folders that cannot be listed ({names})"
    return f"no images in {where}: it has {content}; images end in {EXTENSION_NAMES}"
