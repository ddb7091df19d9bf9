"""Splits of a dataset, derived from the names of its top-level folders."""

from __future__ import annotations

import re
from collections.abc import Collection

ALL = "all"
"""Split name for images outside all split folders."""

_SPLIT = re.compile(r"(train|val|valid|validation|dev|test)[0-9]*", re.IGNORECASE)


def is_split(folder: str) -> bool:
    """Return whether a top-level folder is a split, such as ``train``, ``val2017`` or ``test1``."""
    return _SPLIT.fullmatch(folder) is not None


def split_prefix(stem: str) -> str:
    """Return the split with which an archive's name begins, as in ``train-00000-of-00005``.

    Returns:
        The name of the split; empty if the name does not begin with one.
    """
    match = _SPLIT.match(stem)
    return match[0] if match and (match.end() == len(stem) or stem[match.end()] in "-_.") else ""


def choose_splits(
    folders: Collection[str], requested: Collection[str]
) -> tuple[frozenset[str], str]:
    """Match the requested splits with the existing split folders.

    Args:
        folders: Existing split folders.
        requested: Split names: each is the name of a folder, or a prefix of exactly one folder.

    Returns:
        The folders to list (empty: everything), and the split name for images outside them.

    Raises:
        ValueError: A name matches no folder or more than one, or several splits are requested
            although there are no split folders.
    """
    if not requested:
        return frozenset(), ALL
    if folders:
        return frozenset(_choose(folders, name) for name in requested), ALL
    if len(requested) == 1:
        return frozenset(), next(iter(requested))
    raise ValueError(
        f"splits {', '.join(requested)} are requested, but there are no split folders (train, "
        "val2017, test, ...); pass one --split to apply it to all images, or omit --split"
    )


def _choose(folders: Collection[str], name: str) -> str:
    if name in folders:
        return name
    # An empty name would be a prefix of every folder, so it never matches.
    matches = sorted(folder for folder in folders if folder.lower().startswith(name.lower()))
    if len(matches) == 1 and name:
        return matches[0]
    problem = f"is ambiguous ({', '.join(matches)})" if matches and name else "does not exist"
    raise ValueError(
        f"split {name!r} {problem}; the split folders are {', '.join(sorted(folders))}"
    )
