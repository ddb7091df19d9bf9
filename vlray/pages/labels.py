"""Names of object classes and attributes."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_ATTRIBUTE = 0.1
"""An attribute of less probability says nothing about its region and is not shown."""


@dataclass(frozen=True)
class Names:
    """Names by id; ids beyond them are shown as ``class 12``."""

    objects: tuple[str, ...]
    attributes: tuple[str, ...]


def name_of(label: int, known: tuple[str, ...]) -> str:
    """Name an id; detectors may know more ids than names."""
    return known[label] if 0 <= label < len(known) else f"class {label}"
