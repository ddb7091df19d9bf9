"""Hints for users who pass images or weights to a command that expects regions."""

from __future__ import annotations

import posixpath
import shlex

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from vlray.detect.weights.files import WEIGHTS_ENDINGS
from vlray.images.sources.names import EXTENSIONS
from vlray.storage import files

_FOLDERS = 4  # maximum number of subfolders (train/, val/, ...) to look into


def explain_input(source: str) -> str:
    """Return a hint on how to extract regions if ``source`` holds images or weights.

    Args:
        source: A path or URI.

    Returns:
        The hint; empty if most files of the source are neither images nor weights.
    """
    fs, path = files.resolve(source)
    endings = [posixpath.splitext(name)[1].lower() for name in _names(fs, path)]
    quoted = shlex.quote(source)
    if _most(endings, EXTENSIONS):
        return (
            f"{source} contains images, not regions; extract their regions first: "
            f"vlray extract {quoted} REGIONS"
        )
    if _most(endings, WEIGHTS_ENDINGS):
        return (
            f"{source} looks like detector weights, not regions; extract regions "
            f"with them: vlray extract IMAGES REGIONS --weights {quoted} (with --name vg-caffe or "
            "vg-pbua for Visual Genome weights)"
        )
    return ""


def _most(endings: list[str], expected: frozenset[str]) -> bool:
    return sum(ending in expected for ending in endings) * 2 > len(endings)


def _names(fs: FileSystem, path: str) -> list[str]:
    """Return the names of the files in a folder and in its first few subfolders."""
    if fs.get_file_info(path).type != FileType.Directory:
        return [path]
    infos = _listed(fs, path)
    folders = [info.path for info in infos if info.type == FileType.Directory]
    for folder in folders[:_FOLDERS]:
        infos += _listed(fs, folder)
    return [info.base_name for info in infos if info.type == FileType.File]


def _listed(fs: FileSystem, folder: str) -> list[FileInfo]:
    """List a folder's own entries, sorted by path, without hidden ones."""
    infos = fs.get_file_info(FileSelector(folder))
    return sorted(
        (info for info in infos if not info.base_name.startswith(".")), key=lambda info: info.path
    )
