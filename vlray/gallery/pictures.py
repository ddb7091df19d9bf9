"""Thumbnails, placeholders and annotated images of a gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.fs as pafs
from jaxtyping import UInt8
from PIL import Image

from vlray.gallery.entries import Entry
from vlray.images.decode import ImageError
from vlray.images.draw import draw_regions
from vlray.pages.labels import LEAST_ATTRIBUTE, Names, name_of
from vlray.pages.pictures import ImageReader, jpeg, shrink, thumbnail
from vlray.storage import files

ANNOTATED_SIZE = 1_600
ANNOTATED_QUALITY = 90
PLACEHOLDER_SIDE = 8
PLACEHOLDER_BYTES = 3 * PLACEHOLDER_SIDE**2


@dataclass(frozen=True)
class Picture:
    """What a page shows of one image.

    Attributes:
        placeholder: Colours of the image, see `placeholder`; all zeros if it cannot be read.
        thumbnail: JPEG to embed; None: it is a file, or the image cannot be read.
        problem: Why the image cannot be read; empty: it was read.
    """

    placeholder: bytes
    thumbnail: bytes | None = None
    problem: str = ""


@dataclass(frozen=True)
class Folders:
    """Folders for the image files of a gallery.

    Attributes:
        fs: File system of the gallery.
        annotated: Folder of the annotated files; None: write none.
        thumbnails: Folder of the thumbnails; None: the page embeds them.
    """

    fs: pafs.FileSystem
    annotated: str | None
    thumbnails: str | None


@dataclass(frozen=True)
class Draw:
    """Callable that makes the thumbnail of an image and writes its files.

    Attributes:
        reader: Reader for the images.
        names: Names of the object classes and attributes.
        size: Longest side of a thumbnail, pixels.
        min_score: Minimum score of the regions in the annotated file.
        folders: Where to write the files.
    """

    reader: ImageReader
    names: Names
    size: int
    min_score: float
    folders: Folders

    def __call__(self, item: tuple[Entry, str]) -> Picture:
        """Return the picture of one image, or the reason why the image cannot be read.

        Args:
            item: The entry, and the name of its files.
        """
        entry, name = item
        try:
            image = self.reader.read(entry.path)
        except (OSError, ImageError) as error:
            return Picture(bytes(PLACEHOLDER_BYTES), problem=f"{entry.path}: {error}")
        fs = self.folders.fs
        if (folder := self.folders.annotated) is not None:
            files.write_atomic(fs, files.join(folder, name), self._annotate(image, entry))
        small = thumbnail(image, self.size)
        if (folder := self.folders.thumbnails) is not None:
            files.write_atomic(fs, files.join(folder, name), small)
            return Picture(placeholder(image))
        return Picture(placeholder(image), small)

    def _annotate(self, image: np.ndarray, entry: Entry) -> bytes:
        entry = entry.above(self.min_score)
        # Draw after shrinking, so that lines and text keep their width.
        image = shrink(image, ANNOTATED_SIZE)
        height, width = image.shape[:2]
        # (x, y) twice, for the two corners of a box.
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


def placeholder(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Average a BGR image to a grid of 8 x 8 RGB colours, row by row.

    The browser scales the grid to the size of the image, which blurs it. A JPEG of that size would
    be larger, because of its tables, and would be decoded too late for the first paint.
    """
    side = (PLACEHOLDER_SIDE, PLACEHOLDER_SIDE)
    small = Image.fromarray(image).resize(side, Image.Resampling.BOX, reducing_gap=2)
    return np.ascontiguousarray(np.asarray(small)[:, :, ::-1]).tobytes()
