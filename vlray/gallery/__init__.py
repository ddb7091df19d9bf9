"""Pictures of an output: annotated images and one self-contained page."""

from vlray.gallery.run import GalleryResult, build
from vlray.gallery.summary import table

__all__ = ["GalleryResult", "build", "table"]
