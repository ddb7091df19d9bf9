"""Detectron2's R-CNNs as detectors, for any of its configurations that have a box head."""

from __future__ import annotations

import importlib.util

_MISSING = (
    "Detectron2 is not installed; install it with `vlray doctor --fix` (no compiler needed) or "
    "from its official source, "
    "`pip install git+https://github.com/facebookresearch/detectron2`"
)


def check_installed() -> None:
    """Check that Detectron2 is installed, without importing it.

    Raises:
        ImportError: Detectron2 is not installed.
    """
    if importlib.util.find_spec("detectron2") is None:
        raise ImportError(_MISSING, name="detectron2")
