"""Patterns of several files: ``shards/*.tar`` and ``shards/{000000..000123}.tar``."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import re
from collections.abc import Iterator

from pyarrow.fs import FileSelector

from vlray.storage import files
from vlray.storage.fingerprint import Fingerprint, of_paths

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILDCARD = re.compile(r"[*?\[]")

MAX_FILES = 1_000_000  # of one pattern; a longer range is a typing mistake


def is_pattern(root: str) -> bool:
    """Return whether a text has wildcards or braces."""
    plain = root.partition("?")[0] if files.is_uri(root) else root
    return _WILDCARD.search(plain) is not None or _braces_of(plain) is not None


def _braces_of(text: str) -> re.Match[str] | None:
    """Return the first braces with a range or alternatives."""
    for match in _BRACES.finditer(text):
        if "," in match[1] or _RANGE.fullmatch(match[1]):
            return match
    return None


def expand(pattern: str) -> tuple[str, list[tuple[str, Fingerprint]]]:
    """Expand a pattern.

    Args:
        pattern: A path or URI. ``{000..123}`` is a range of numbers, padded with zeros as its first
            number; ``{a,b}`` are alternatives; ``*``, ``?`` and ``[...]`` match names on a disk and
            in object storage; ``**`` also matches folders.

    Returns:
        The folder above the first wildcard, and the path relative to it and the fingerprint of
        each file, sorted. A name from braces is listed even if there is no such file, so that the
        missing file is reported.

    Raises:
        ValueError: A range is longer than `MAX_FILES` or runs backwards.
    """
    plain, question_mark, options = (
        pattern.partition("?") if files.is_uri(pattern) else (pattern, "", "")
    )
    special = min(match.start() for match in (_WILDCARD.search(plain), _braces_of(plain)) if match)
    folder, _, _ = plain[:special].rpartition("/")
    root = folder + question_mark + options if folder else "/" if plain.startswith("/") else "."
    fs, base = files.resolve(root)
    paths: set[str] = set()
    for name in itertools.islice(_alternatives(plain[len(folder) + bool(folder) :]), MAX_FILES + 1):
        if not _WILDCARD.search(name):
            paths.add(name)
        elif files.is_local(fs):
            matches = glob.glob(name, root_dir=base, recursive=True)  # noqa: PTH207 - relative
            paths.update(map(files.escape_bytes, matches))
        else:
            with files.explained(root):
                infos = fs.get_file_info(FileSelector(base, recursive=True))
            names = [info.path[len(base) + 1 :] for info in infos if info.is_file]
            deep = "**" in name
            paths.update(
                one
                # fnmatch's * also matches slashes; the number of slashes is compared below.
                for one in fnmatch.filter(names, name.replace("**/", "*"))
                if deep or one.count("/") == name.count("/")
            )
    if len(paths) > MAX_FILES:
        raise ValueError(f"{pattern} names more than {MAX_FILES:,} files; check its braces")
    ordered = sorted(paths)
    return (base if files.is_local(fs) else root), list(
        zip(ordered, of_paths(root, ordered), strict=True)
    )


def _alternatives(text: str) -> Iterator[str]:
    match = _braces_of(text)
    if match is None:
        yield text
        return
    before, after = text[: match.start()], text[match.end() :]
    if numbers := _RANGE.fullmatch(match[1]):
        first, last = numbers[1], numbers[2]
        if int(last) < int(first):
            raise ValueError(f"the range {{{match[1]}}} runs backwards")
        numbers_between = range(int(first), int(last) + 1)
        choices = (str(number).zfill(len(first)) for number in numbers_between)
    else:
        choices = (choice for choice in match[1].split(","))
    for choice in choices:
        yield from _alternatives(before + choice + after)
