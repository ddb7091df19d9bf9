"""Thumbnails of the images of an output."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from vlray.images.decode import MAX_PIXELS, ImageError, decode
from vlray.images.sources.members import read_image
from vlray.regions.output import RegionOutput
from vlray.storage import files

# Pairs: maximum number of images on a page, longest side of its thumbnails in pixels. These sizes
# keep a page below 65 MB.
THUMBNAIL_SIZES = ((24, 1_280), (400, 640), (1_000, 512), (2_000, 384))
SMALLEST_THUMBNAIL = 256
THUMBNAIL_QUALITY = 75

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Picture:
    """Thumbnail of one image.

    Attributes:
        thumbnail: JPEG; None: the image cannot be read.
        problem: Why the image cannot be read; empty: it was read.
    """

    thumbnail: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class ImageReader:
    """Reads and decodes the images of an output.

    Attributes:
        images_root: Base folder or URI of relative paths.
        max_pixels: Maximum number of pixels per image, as set for the extraction.
    """

    images_root: str
    max_pixels: int

    @classmethod
    def of(cls, output: RegionOutput, images_root: str = "") -> ImageReader:
        """Create a reader for the images of an output; set ``images_root`` if they have moved."""
        limit = int(output.info.settings.get("images.max_pixels", MAX_PIXELS))
        return cls(images_root or output.info.images_root, limit)

    def read(self, path: str) -> np.ndarray:
        """Decode one image to BGR.

        Raises:
            OSError: The file cannot be read.
            ImageError: The image cannot be decoded, or the output does not store where its images
                are.
        """
        return decode(self._read_bytes(path), max_pixels=self.max_pixels)

    def _read_bytes(self, path: str) -> bytes:
        if not (self.images_root or files.is_uri(path) or path.startswith("/")):
            # Converted from a file without images.
            raise ImageError("the output does not store where its images are")
        return read_image(self.images_root or "/", path)


def read_thumbnails(
    output: RegionOutput, paths: Sequence[str], images_root: str = ""
) -> list[Picture]:
    """Read images of an output and make a thumbnail of each.

    Args:
        output: The output, which sets the default image folder and the maximum image size.
        paths: Paths of the images, as stored in the output.
        images_root: Folder or URI of the images; empty: the folder they were extracted from.

    Returns:
        A picture for each path, in order.
    """
    # Without a stored folder, relative paths start from the working directory.
    reader = ImageReader.of(output, images_root or output.info.images_root or ".")
    size = thumbnail_size(len(paths))

    def picture(path: str) -> Picture:
        try:
            return Picture(thumbnail(reader.read(path), size))
        except (OSError, ImageError) as error:
            return Picture(None, f"{path}: {error}")

    return list(in_parallel(picture, paths))


def thumbnail_size(images: int) -> int:
    """Return the longest side, in pixels, of the thumbnails on a page with this many images."""
    for most, size in THUMBNAIL_SIZES:
        if images <= most:
            return size
    return SMALLEST_THUMBNAIL


def in_parallel(make: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Make pictures in several threads (Pillow releases the GIL) and yield them in order."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(pool.submit(make, item))
            # Bound the queue, so that the thumbnails of a large output do not pile up in memory.
            if len(ahead) > 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def thumbnail(image: np.ndarray, size: int) -> bytes:
    """Encode a BGR image as a JPEG with a longest side of at most ``size`` pixels."""
    # Pillow expects RGB.
    small = np.ascontiguousarray(shrink(image, size)[:, :, ::-1])
    return jpeg(Image.fromarray(small), THUMBNAIL_QUALITY)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an image to a longest side of ``size`` pixels; smaller images stay unchanged."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return image
    target = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(
        # reducing_gap speeds up large reductions with almost the same result.
        Image.fromarray(image).resize(target, Image.Resampling.LANCZOS, reducing_gap=3)
    )


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode an image as JPEG."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality, optimize=True)
    return sink.getvalue()
