"""What belongs to ``vlray extract``, images and weights, where another command was given it."""

from __future__ import annotations

import posixpath
import shlex

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from vlray.detect.weights.files import WEIGHTS_ENDINGS
from vlray.images.walk import EXTENSIONS
from vlray.storage import files

_FOLDERS = 4  # train/, val/, ...: the first few tell


def explain_input(place: str) -> str:
    """Say that a file or folder is images, or weights, and how they become regions.

    Args:
        place: A path or URI of something.

    Returns:
        Nothing where it is neither.
    """
    fs, path = files.resolve(place)
    endings = [posixpath.splitext(name)[1].lower() for name in _names(fs, path)]
    shown = shlex.quote(place)
    if _most(endings, EXTENSIONS):
        return (
            f"{place} holds images and no regions yet; find their regions first: "
            f"vlray extract {shown} REGIONS"
        )
    if _most(endings, WEIGHTS_ENDINGS):
        return (
            f"{place} looks like the weights of a detector, not like regions; find the regions of "
            f"images with it: vlray extract IMAGES REGIONS --weights {shown} (with --name vg-caffe "
            "or vg-pbua for Visual Genome's)"
        )
    return ""


def _most(endings: list[str], wanted: frozenset[str]) -> bool:
    return sum(ending in wanted for ending in endings) * 2 > len(endings)


def _names(fs: FileSystem, path: str) -> list[str]:
    """List the files of a folder and of its first folders."""
    if fs.get_file_info(path).type != FileType.Directory:
        return [path]
    found = _listed(fs, path)
    folders = [info.path for info in found if info.type == FileType.Directory]
    for folder in folders[:_FOLDERS]:
        found += _listed(fs, folder)
    return [info.base_name for info in found if info.type == FileType.File]


def _listed(fs: FileSystem, folder: str) -> list[FileInfo]:
    found = fs.get_file_info(FileSelector(folder))
    return sorted(
        (info for info in found if not info.base_name.startswith(".")), key=lambda info: info.path
    )
