"""Compare the paths and URIs that steps name."""

from __future__ import annotations

import os


def normal(location: str) -> str:
    """Normalize a path; from a URI, only remove a trailing slash."""
    text = location.rstrip("/") or location
    if "://" in text:
        return text
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - as vlray.storage.files


def is_below(location: str, folder: str) -> bool:
    """Return whether a path or URI is the folder itself or inside it."""
    inner, outer = normal(location), normal(folder)
    return inner == outer or inner.startswith(outer + "/")
