"""Region features for vision-and-language models at the scale of a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlray.detect.notebook import detector_info, find_regions
    from vlray.loader.open import open_loader
    from vlray.regions.output import open_output

__version__ = "0.1.0"
__all__ = ["__version__", "detector_info", "find_regions", "open_loader", "open_output"]


def __getattr__(name: str) -> Any:
    """Import the functions for notebooks when they are asked for: they bring torch with them."""
    if name == "open_output":
        from vlray.regions.output import open_output

        return open_output
    if name == "open_loader":
        from vlray.loader.open import open_loader

        return open_loader
    if name in ("find_regions", "detector_info"):
        from vlray.detect import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
