"""Names of object classes and attributes."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_ATTRIBUTE = 0.1
"""Minimum probability of an attribute to be shown."""


@dataclass(frozen=True)
class Names:
    """Names of object classes and attributes, by id.

    Attributes:
        objects: Names of the object classes.
        attributes: Names of the attributes.
    """

    objects: tuple[str, ...]
    attributes: tuple[str, ...]


def name_of(label: int, vocabulary: tuple[str, ...]) -> str:
    """Return the name of an id; ids without a name become ``class 12``."""
    return vocabulary[label] if 0 <= label < len(vocabulary) else f"class {label}"
