"""Galleries of a region output: annotated images and HTML pages, which work offline."""

from vlray.gallery.run import GalleryResult, build
from vlray.gallery.summary import table

__all__ = ["GalleryResult", "build", "table"]
