"""Thumbnails and annotated images of a gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.fs as pafs

from vlray.gallery.entries import Entry
from vlray.images.decode import ImageError
from vlray.images.draw import draw_regions
from vlray.pages.labels import LEAST_ATTRIBUTE, Names, name_of
from vlray.pages.pictures import ImageReader, Picture, jpeg, shrink, thumbnail
from vlray.storage import files

ANNOTATED_SIZE = 1_600
ANNOTATED_QUALITY = 90


@dataclass(frozen=True)
class Draw:
    """Callable that makes the thumbnail of an image and optionally writes its annotated file.

    Attributes:
        reader: Reader for the images.
        names: Names of the object classes and attributes.
        size: Longest side of a thumbnail, pixels.
        min_score: Minimum score of the regions in the annotated file.
        folder: File system and folder of the annotated files; None: write none.
    """

    reader: ImageReader
    names: Names
    size: int
    min_score: float
    folder: tuple[pafs.FileSystem, str] | None

    def __call__(self, item: tuple[Entry, str]) -> Picture:
        """Return the thumbnail of one image, or the reason why the image cannot be read.

        Args:
            item: The entry, and the name of its annotated file.
        """
        entry, name = item
        try:
            image = self.reader.read(entry.path)
        except (OSError, ImageError) as error:
            return Picture(None, f"{entry.path}: {error}")
        if self.folder is not None:
            target_fs, target = self.folder
            files.write_atomic(target_fs, files.join(target, name), self._annotate(image, entry))
        return Picture(thumbnail(image, self.size))

    def _annotate(self, image: np.ndarray, entry: Entry) -> bytes:
        entry = entry.above(self.min_score)
        # Draw after shrinking, so that lines and text keep their width.
        image = shrink(image, ANNOTATED_SIZE)
        height, width = image.shape[:2]
        scale = np.array([width / entry.width, height / entry.height] * 2, np.float32)
        drawn = draw_regions(
            image,
            entry.boxes * scale,
            [name_of(label, self.names.objects) for label in entry.obj_ids.tolist()],
            entry.obj_probs,
            [
                name_of(attribute, self.names.attributes) if prob >= LEAST_ATTRIBUTE else ""
                for attribute, prob in zip(entry.attr_ids.tolist(), entry.attr_probs, strict=True)
            ]
            if len(entry.attr_probs)
            else (),
        )
        return jpeg(drawn, ANNOTATED_QUALITY)
