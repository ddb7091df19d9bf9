"""Where the files of a dataset are: annotations of a split, images of an image set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyarrow.fs import FileInfo, FileSystem, FileType

from vlray.config.data import DataSection, ImageSetsSection
from vlray.storage import files
from vlray.storage.fingerprint import of_tree
from vlray.tasks.catalogue import SpecDataset
from vlray.tasks.layout import Roles, roles_of
from vlray.tasks.protocol import Files, VisionLanguageDataset
from vlray.tasks.spec import DatasetSpec, SplitSpec


@dataclass(frozen=True)
class Wanted:
    """An annotation file of a split, found or not."""

    role: str
    name: str
    """The official name, as the catalogue has it."""

    looked: tuple[str, ...]
    """Where it may be, in the order of looking."""

    path: str
    """Where it is; empty: nowhere there."""

    required: bool


def wanted_files(dataset: VisionLanguageDataset, split: str, data: DataSection) -> list[Wanted]:
    """Look for the annotation files of a split.

    A file is found in the dataset's annotation folder by its official name, or by the last part of
    it alone; an absolute name or URI stands for itself.

    Raises:
        OSError: The storage cannot be reached.
    """
    spec = dataset.spec
    folder = annotation_folder(spec, data)
    roles = _roles(dataset, spec.splits[split])
    wanted = []
    for role, named in spec.splits[split].files.items():
        required = roles is None or roles.get(role) == "required"
        for name in (named,) if isinstance(named, str) else named:
            places = dict.fromkeys((join(folder, name), join(folder, name.rpartition("/")[2])))
            found = next(filter(exists, places), "")
            wanted.append(Wanted(role, name, tuple(places), found, required))
    return wanted


def _roles(dataset: VisionLanguageDataset, split: SplitSpec) -> Roles | None:
    if split.of or not isinstance(dataset, SpecDataset):
        return None
    return roles_of(dataset.layout)


def check_roles(dataset: VisionLanguageDataset, split: str) -> None:
    """See that a split names every file that its layout cannot do without.

    Raises:
        ValueError: It does not; the layout's roles are said.
    """
    part = dataset.spec.splits[split]
    roles = _roles(dataset, part) or {}
    lacking = [
        role for role, need in roles.items() if need == "required" and role not in part.files
    ]
    if lacking:
        raise ValueError(
            f"{dataset.spec.name}:{split} names no file for {', '.join(lacking)} under files; "
            f"the layout {dataset.spec.layout} reads {', '.join(roles)}"
        )


def split_files(dataset: VisionLanguageDataset, split: str, data: DataSection) -> Files:
    """Give the files of a split by role, as a layout wants them.

    Raises:
        FileNotFoundError: A required file is missing: says where it was looked for, where it can
            be had, and how to say where it is.
    """
    wanted = wanted_files(dataset, split, data)
    check_roles(dataset, split)
    if missing := [file for file in wanted if file.required and not file.path]:
        raise FileNotFoundError(describe_missing(dataset.spec, split, missing))
    found: dict[str, tuple[str, ...]] = {}
    for file in wanted:
        if file.path:
            found[file.role] = (*found.get(file.role, ()), file.path)
    return found


def describe_missing(spec: DatasetSpec, split: str, missing: list[Wanted]) -> str:
    """Say which files of a split are not here, and what to do about it."""
    lines = [f"{spec.name}:{split} lacks files:"]
    lines += [f"  {file.role}: {' or '.join(file.looked)}" for file in missing]
    if sources := spec.splits[split].download or ((spec.home,) if spec.home else ()):
        lines.append(f"  get them from {', '.join(sources)}")
    lines.append(f"  or say where they are: vlray env set data.annotations.{spec.name} FOLDER")
    return "\n".join(lines)


def annotation_folder(spec: DatasetSpec, data: DataSection) -> str:
    """Say where the annotation files of a dataset are looked for."""
    return _folder(data, _given(data.annotations, spec.name), spec.name)


def image_folder(spec: DatasetSpec, data: DataSection) -> str:
    """Say where the images of a dataset are looked for."""
    return image_set_folder(spec.image_set, data)


def image_set_folder(name: str, data: ImageSetsSection) -> str:
    """Say where the images of a set are looked for."""
    return _folder(data, _given(data.images, name), name)


def _given(folders: Mapping[str, str], name: str) -> str:
    """Look a name up; a ``VLRAY_*`` variable can only spell it with ``_`` for ``-``."""
    return folders.get(name) or folders.get(name.replace("-", "_"), "")


def _folder(data: ImageSetsSection, given: str, name: str) -> str:
    """Take what is given, in ``data.root`` where it is not in the current folder."""
    if files.is_uri(given) or (given and exists(given)):
        return given
    return join(data.root, given or name)


def join(folder: str, name: str) -> str:
    """Join a folder or URI (with its options) and a name below it; an absolute one is itself."""
    if not folder or files.is_uri(name) or name.startswith(("/", "~")):
        return name
    if not files.is_uri(folder):
        return files.join(folder, name)
    plain, question_mark, options = folder.partition("?")
    return files.join(plain, name) + question_mark + options


def exists(uri: str) -> bool:
    """Say whether a file or a folder is there."""
    return bool(_info(uri)[2].type != FileType.NotFound)


def _info(uri: str) -> tuple[FileSystem, str, FileInfo]:
    fs, path = files.resolve(uri)
    with files.explained(uri):
        return fs, path, fs.get_file_info(path)


def identity(uri: str) -> list[tuple[str, int | None, int | None]]:
    """Return which file a path is now: path, size in bytes, time of the last change in ns.

    Of a folder: those of all files below it.
    """
    return [(path, *found) for path, found in of_tree(uri).items()]
