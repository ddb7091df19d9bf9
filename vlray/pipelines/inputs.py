"""What a step reads, by fingerprints that are cheap: names, sizes and times of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlray.config.extract import ExtractConfig
from vlray.pipelines.steps import Step, is_below, normal
from vlray.settings.options import Path as Option
from vlray.storage import files
from vlray.storage.fingerprint import Fingerprint, of_tree, summary

LISTS = (".txt", ".lst", ".list")  # names of files that may list images
ABSENT = "absent"

_NEVER = ("split", "corpus", "objective", "dataset", "id_rule", "cache_dir")
"""Options that are no places, whatever folder may be called so, or whose files are no input."""


def inputs_of(step: Step) -> dict[str, str]:
    """Look at everything that a step's settings name and that is there.

    Returns:
        Fingerprints by place, as the settings spell it: another folder to run in is no change.

    Raises:
        OSError: A storage cannot be reached, or a folder not be read.
    """
    found = {
        text: fingerprint(place, deep=deep) for text, (place, deep) in sorted(_places(step).items())
    }
    listed = step.config.images.root if isinstance(step.config, ExtractConfig) else ""
    if listed in found and listed.endswith(LISTS):  # a list stays as it is when its images change
        found[listed] += f"-{_of_listed(_places(step)[listed][0])}"
    return found


def _places(step: Step) -> dict[str, tuple[str, bool]]:
    """Find what settings name: by the text, where it is and whether all below it counts."""
    found = {}
    for option, text in step.reads():
        place = text.rpartition(":")[0] if ".py:" in text else text  # path/to/file.py:Class
        there = _find(place, step.config.env.data_dir) if _is_place(option, place, step) else ""
        if there and not (step.output and is_below(there, step.output)):
            # A dataset's folder may hold its images as well; its annotations are at the top.
            found[place] = there, option[:2] != ("data", "annotations")
    return found


def _is_place(option: Option, text: str, step: Step) -> bool:
    if option[-1] in _NEVER or option == ("data", "root"):
        return False
    if option[-1] == "name" or option[0] == "tuned":  # a preset may be called as a folder here is
        return "/" in text or "." in text
    if option[:2] == ("data", "images"):  # those of all image sets are known: one is read at most
        return "".join(option[2:]) == getattr(getattr(step.config, "images", None), "root", None)
    if option[:2] == ("data", "annotations"):
        return any(option[2] in corpus for corpus in _corpora(step))
    return True


def _corpora(step: Step) -> Iterator[str]:
    yield str(getattr(step.config, "corpus", ""))
    yield str(getattr(step.config, "name", ""))  # of vlray datasets
    yield str(getattr(getattr(step.config, "validation", None), "valid", ""))


def _find(text: str, data_dir: Path) -> str:
    """Give the place in one spelling; empty: it is none that is there."""
    if files.is_uri(text):
        return text
    for place in (Path(text).expanduser(), data_dir / text):
        try:
            if place.exists():
                return normal(str(place))
        except (OSError, ValueError):  # too long for a name, or a NUL in it
            continue
    return ""


def fingerprint(place: str, *, deep: bool = True) -> str:
    """Tell whether a file or folder is as it was, without reading a file's content.

    Args:
        place: A path or URI.
        deep: Whether the folders below count as well.

    Returns:
        A hash of names, sizes and times of change; hidden files, which locks and unfinished files
        are, do not count. ``absent`` where there is nothing.

    Raises:
        OSError: The storage cannot be reached.
        ValueError: The URI is none that vlray reads.
    """
    _, path = files.resolve(place)
    found = of_tree(place, deep=deep)
    if list(found) == [path]:
        size, time = found[path]
        return f"{size}-{time}"
    if not found and not _exists(place):
        return ABSENT
    below = {name[len(path) :]: one for name, one in found.items()}
    return summary({name: one for name, one in below.items() if "/." not in name})


def _exists(place: str) -> bool:
    from pyarrow.fs import FileType

    fs, path = files.resolve(place)
    with files.explained(place):
        return bool(fs.get_file_info(path).type != FileType.NotFound)


def _of_listed(place: str) -> str:
    """Digest the fingerprints of the images that a list names; empty where it is no such list."""
    from vlray.images.find import list_images

    try:
        table = list_images(place, id_rule="path").table
    except ValueError:
        return ""
    rows = zip(
        *(table[name].to_pylist() for name in ("path", "file_bytes", "mtime_ns")), strict=True
    )
    return summary({name: Fingerprint(*one) for name, *one in rows})
