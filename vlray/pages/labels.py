"""Names of object classes and attributes."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_ATTRIBUTE = 0.1
"""Minimum probability at which an attribute is shown."""


@dataclass(frozen=True)
class Names:
    """Names of object classes and attributes, indexed by id.

    Attributes:
        objects: Names of the object classes.
        attributes: Names of the attributes.
    """

    objects: tuple[str, ...]
    attributes: tuple[str, ...]


def name_of(label: int, vocabulary: tuple[str, ...]) -> str:
    """Return the name of a label id; without a name, id 12 becomes ``class 12``."""
    return vocabulary[label] if 0 <= label < len(vocabulary) else f"class {label}"
