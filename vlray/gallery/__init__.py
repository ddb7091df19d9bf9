"""Galleries of a region output: annotated images and self-contained HTML pages."""

from vlray.gallery.run import GalleryResult, build
from vlray.gallery.summary import table

__all__ = ["GalleryResult", "build", "table"]
