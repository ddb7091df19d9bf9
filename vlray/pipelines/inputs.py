"""Inputs of a step and their fingerprints: names, sizes and modification times of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlray.config.extract import ExtractConfig
from vlray.pipelines.paths import is_below, normal
from vlray.pipelines.steps import Step
from vlray.regions import parts
from vlray.settings.options import Path as Option
from vlray.settings.secrets import redact
from vlray.storage import files
from vlray.storage.fingerprint import Fingerprint, of_tree, summary

LISTS = (".txt", ".lst", ".list")  # suffixes of files that may list images
ABSENT = "absent"

_PLAN = f"/{parts.PLAN}/"

_NEVER = ("split", "corpus", "objective", "dataset", "id_rule", "cache_dir")
"""Options that are never inputs, even if a folder happens to have the same name as their value."""


def inputs_of(step: Step) -> dict[str, str]:
    """Fingerprint the existing files and folders that a step's settings name.

    Returns:
        Fingerprints, keyed by path as spelled in the settings, so that another working directory
        is not a change.

    Raises:
        OSError: An object storage cannot be reached, or a folder cannot be read.
    """
    paths = _input_paths(step)
    prints = {text: fingerprint(path, deep=deep) for text, (path, deep) in sorted(paths.items())}
    listed = step.config.images.root if isinstance(step.config, ExtractConfig) else ""
    if listed in prints and listed.endswith(LISTS):
        # The list file stays the same when the images that it lists change.
        prints[listed] += f"-{_fingerprint_of_listed(paths[listed][0])}"
    # Names of inputs are stored and printed.
    return {redact(text): stamp for text, stamp in prints.items()}


def _input_paths(step: Step) -> dict[str, tuple[str, bool]]:
    """Find the existing inputs of a step.

    Returns:
        The path and whether its subfolders count, keyed by the text of the setting.
    """
    paths = {}
    for option, text in step.reads():
        name = text.rpartition(":")[0] if ".py:" in text else text  # path/to/file.py:Class
        path = _find(name, step.config.env.data_dir) if _may_be_path(option, name, step) else ""
        if path and not (step.output and is_below(path, step.output)):
            # A dataset's folder may also contain images; the annotations are at its top level.
            paths[name] = path, option[:2] != ("data", "annotations")
    return paths


def _may_be_path(option: Option, text: str, step: Step) -> bool:
    # data.root is the parent of all datasets: a change to any of them would count.
    if option[-1] in _NEVER or option == ("data", "root"):
        return False
    if option[-1] == "name" or option[0] == "tuned":  # a preset may share its name with a folder
        return "/" in text or "." in text
    if option[:2] == ("data", "images"):  # a step reads at most one of the configured image sets
        return "".join(option[2:]) == getattr(getattr(step.config, "images", None), "root", None)
    if option[:2] == ("data", "annotations"):
        return any(option[2] in corpus for corpus in _corpora(step))
    return True


def _corpora(step: Step) -> Iterator[str]:
    yield str(getattr(step.config, "corpus", ""))
    yield str(getattr(step.config, "name", ""))  # of vlray datasets
    yield str(getattr(getattr(step.config, "validation", None), "valid", ""))


def _find(text: str, data_dir: Path) -> str:
    """Return the normalized path that a text names; empty if there is no such file or folder.

    The content at a URL has no fingerprint; steps read it from the cache anyway.
    """
    if text.startswith(("http://", "https://")):
        return ""
    if files.is_uri(text):
        return text
    for path in (Path(text).expanduser(), data_dir / text):
        try:
            if path.exists():
                return normal(str(path))
        except (OSError, ValueError):  # the text is too long for a path, or has a NUL
            continue
    return ""


def fingerprint(location: str, *, deep: bool = True) -> str:
    """Fingerprint a file or folder without reading the contents of files.

    Args:
        location: A path or URI.
        deep: Whether subfolders count as well.

    Returns:
        Size and modification time of a file; for a folder, a hash of the names, sizes and
        modification times of its files except hidden ones, which are locks and unfinished files;
        ``absent`` if nothing exists there.

    Raises:
        OSError: The object storage cannot be reached.
        ValueError: vlray does not support the URI.
    """
    _, path = files.resolve(location)
    prints = of_tree(location, deep=deep)
    if list(prints) == [path]:
        size, time = prints[path]
        return f"{size}-{time}"
    if not prints and not _exists(location):
        return ABSENT
    relative = {name[len(path) :]: one for name, one in prints.items() if "/." not in name}
    if "/vlray.json" in relative:
        # The plan in an output may be rewritten even though no image has changed.
        relative = {name: one for name, one in relative.items() if not name.startswith(_PLAN)}
    return summary(relative)


def _exists(location: str) -> bool:
    from pyarrow.fs import FileType

    fs, path = files.resolve(location)
    with files.explained(location):
        return bool(fs.get_file_info(path).type != FileType.NotFound)


def _fingerprint_of_listed(path: str) -> str:
    """Fingerprint the images that a file lists; empty if the file is not a list of images."""
    from vlray.images.find import list_images

    try:
        table = list_images(path, id_rule="path").table
    except ValueError:
        return ""
    rows = zip(
        *(table[name].to_pylist() for name in ("path", "file_bytes", "mtime_ns")), strict=True
    )
    return summary({name: Fingerprint(*one) for name, *one in rows})
