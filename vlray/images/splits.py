"""Splits of a dataset, told from the names of its top-level folders."""

from __future__ import annotations

import re
from collections.abc import Collection

ALL = "all"
"""The split of images outside any split folder."""

_SPLIT = re.compile(r"(train|val|valid|validation|dev|test)[0-9]*", re.IGNORECASE)


def is_split(folder: str) -> bool:
    """Tell whether a top-level folder is a split: ``train``, ``val2017``, ``test1``."""
    return _SPLIT.fullmatch(folder) is not None


def choose_splits(folders: Collection[str], wanted: Collection[str]) -> tuple[frozenset[str], str]:
    """Find the split folders that are meant.

    Args:
        folders: The split folders that there are.
        wanted: Names of splits: of a folder, or how one single folder's name begins.

    Returns:
        The folders to list, none meaning everything; and the split of images outside of them.

    Raises:
        ValueError: A name means none of the folders or several; or there are no folders, and more
            than one name.
    """
    if not wanted:
        return frozenset(), ALL
    if folders:
        return frozenset(_choose(folders, name) for name in wanted), ALL
    if len(wanted) == 1:
        return frozenset(), next(iter(wanted))
    raise ValueError(
        f"splits {', '.join(wanted)} are asked for, but there are no split folders (train, "
        "val2017, test, ...); give one --split as the name of all images, or none"
    )


def _choose(folders: Collection[str], name: str) -> str:
    if name in folders:
        return name
    alike = sorted(folder for folder in folders if folder.lower().startswith(name.lower()))
    if len(alike) == 1 and name:
        return alike[0]
    problem = f"may be any of {', '.join(alike)}" if alike and name else "is not there"
    raise ValueError(
        f"split {name!r} {problem}; the split folders are {', '.join(sorted(folders))}"
    )
