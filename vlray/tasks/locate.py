"""Locate a dataset's files: the annotations of a split, the images of an image set."""

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
class AnnotationFile:
    """An annotation file of a split, which may or may not exist."""

    role: str
    name: str
    """Official name, from the catalogue."""

    candidates: tuple[str, ...]
    """Possible paths, in the order of lookup."""

    path: str
    """The first candidate that exists; empty if none does."""

    required: bool


def annotation_files(
    dataset: VisionLanguageDataset, split: str, data: DataSection
) -> list[AnnotationFile]:
    """Look up the annotation files of a split.

    Each file is looked up in the dataset's annotation folder by its official name, then by the
    last component of that name. An absolute path or a URI is used unchanged.

    Raises:
        OSError: The storage cannot be reached.
    """
    spec = dataset.spec
    folder = annotation_folder(spec, data)
    roles = _roles(dataset, spec.splits[split])
    result = []
    for role, named in spec.splits[split].files.items():
        required = roles is None or roles.get(role) == "required"
        for name in (named,) if isinstance(named, str) else named:
            # Users often put all files into one folder, without the folders of the archive.
            paths = dict.fromkeys((join(folder, name), join(folder, name.rpartition("/")[2])))
            path = next(filter(exists, paths), "")
            result.append(AnnotationFile(role, name, tuple(paths), path, required))
    return result


def _roles(dataset: VisionLanguageDataset, split: SplitSpec) -> Roles | None:
    # The layout does not read the image ids of a subset; a user's class defines no roles.
    if split.of or not isinstance(dataset, SpecDataset):
        return None
    return roles_of(dataset.layout)


def check_roles(dataset: VisionLanguageDataset, split: str) -> None:
    """Check that a split names every file that its layout requires.

    Raises:
        ValueError: A required file is not named; the message lists the roles of the layout.
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
    """Return the paths of a split's files, keyed by role, in the form that layouts expect.

    Raises:
        ValueError: The split names no file for a required role.
        FileNotFoundError: A required file is missing. The message lists the paths that were
            tried, the download address, and the setting that changes the folder.
    """
    all_files = annotation_files(dataset, split, data)
    check_roles(dataset, split)
    if missing := [file for file in all_files if file.required and not file.path]:
        raise FileNotFoundError(describe_missing(dataset.spec, split, missing))
    paths: dict[str, tuple[str, ...]] = {}
    for file in all_files:
        if file.path:
            paths[file.role] = (*paths.get(file.role, ()), file.path)
    return paths


def describe_missing(spec: DatasetSpec, split: str, missing: list[AnnotationFile]) -> str:
    """Format a message that lists a split's missing files and how to supply them."""
    lines = [f"{spec.name}:{split} lacks files:"]
    lines += [f"  {file.role}: {' or '.join(file.candidates)}" for file in missing]
    if sources := spec.splits[split].download or ((spec.home,) if spec.home else ()):
        lines.append(f"  download them from {', '.join(sources)}")
    lines.append(f"  set their folder: vlray env set data.annotations.{spec.name} FOLDER")
    lines.append("  `vlray datasets list` names the datasets and their folders")
    return "\n".join(lines)


def annotation_folder(spec: DatasetSpec, data: DataSection) -> str:
    """Return a dataset's annotation folder, which may not exist."""
    return _folder(data, _setting(data.annotations, spec.name), spec.name)


def image_folder(spec: DatasetSpec, data: DataSection) -> str:
    """Return a dataset's image folder, which may not exist."""
    return image_set_folder(spec.image_set, data)


def image_set_folder(name: str, data: ImageSetsSection) -> str:
    """Return an image set's folder, which may not exist."""
    return _folder(data, _setting(data.images, name), name)


def _setting(folders: Mapping[str, str], name: str) -> str:
    """Return the folder set for ``name``, or ``""``; ``VLRAY_*`` variables spell ``-`` as ``_``."""
    return folders.get(name) or folders.get(name.replace("-", "_"), "")


def _folder(data: ImageSetsSection, setting: str, name: str) -> str:
    """Return ``setting`` if it exists, else ``setting`` or ``name`` below ``data.root``."""
    if files.is_uri(setting) or (setting and exists(setting)):
        return setting
    return join(data.root, setting or name)


def join(folder: str, name: str) -> str:
    """Join a folder or URI with a relative name, before the URI's options; keep absolute names."""
    if not folder or files.is_uri(name) or name.startswith(("/", "~")):
        return name
    if not files.is_uri(folder):
        return files.join(folder, name)
    # Options of a URI follow the whole path.
    plain, question_mark, options = folder.partition("?")
    return files.join(plain, name) + question_mark + options


def exists(uri: str) -> bool:
    """Return whether a file or folder exists."""
    return bool(_info(uri)[2].type != FileType.NotFound)


def _info(uri: str) -> tuple[FileSystem, str, FileInfo]:
    fs, path = files.resolve(uri)
    with files.explained(uri):
        return fs, path, fs.get_file_info(path)


def identity(uri: str) -> list[tuple[str, int | None, int | None]]:
    """Return the path, size in bytes and modification time in ns of a file.

    For a folder, return them for every file below it.
    """
    return [(path, *fingerprint) for path, fingerprint in of_tree(uri).items()]
