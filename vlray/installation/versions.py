"""Versions of the packages that decide what vlray computes."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

DETECTRON2 = ("detectron2", "pb1-detectron2")
"""Distributions that contain Detectron2: the official one, and its Python source."""


def version_of(*distributions: str) -> str:
    """Return the version of the first of some distributions that is installed, else ''."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def versions_line() -> str:
    """Return the versions of Python, torch, Ray and Detectron2 in one line, without imports."""
    packages = {"torch": ("torch",), "Ray": ("ray",), "Detectron2": DETECTRON2}
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {version_of(*names) or 'missing'}" for name, names in packages.items()]
    return ", ".join(parts)
