"""Thumbnails and annotated files: the images of an output, read again and drawn."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.fs as pafs
from PIL import Image

from vlray.gallery.entries import Entry
from vlray.gallery.page import LEAST_ATTRIBUTE, Names, name_of
from vlray.images.decode import MAX_PIXELS, ImageError, decode
from vlray.images.draw import draw_regions
from vlray.regions.output import RegionOutput
from vlray.storage import files

# Images of a page, and the longest side of its thumbnails in pixels: the fewer there are, the
# sharper they can be, and a page stays below 65 MB.
THUMBNAIL_SIZES = ((400, 640), (1_000, 512), (2_000, 384))
SMALLEST_THUMBNAIL = 256
THUMBNAIL_QUALITY = 75

ANNOTATED_SIZE = 1_600
ANNOTATED_QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """The thumbnail of one image, or why there is none."""

    thumbnail: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class Draw:
    """Read one image, make its thumbnail and, if wanted, write its annotated file.

    Attributes:
        images_root: What the entries' paths are relative to: a folder or a URI.
        names: Of the labels and attributes.
        size: Longest side of a thumbnail, pixels.
        min_score: Regions below it are left out of the annotated file.
        max_pixels: Larger images are not decoded; the limit of the extraction.
        folder: Where annotated files go; None: none are written.
    """

    images_root: str
    names: Names
    size: int
    min_score: float
    max_pixels: int
    folder: tuple[pafs.FileSystem, str] | None

    def _read(self, path: str) -> bytes:
        if files.is_uri(path) or path.startswith("/"):
            return files.read_bytes(*files.resolve(path))
        if not self.images_root:  # converted without its photographs
            raise ImageError("the output does not say where its images are")
        fs, root = self._root
        return files.read_bytes(fs, files.join(root, path))

    @cached_property
    def _root(self) -> tuple[pafs.FileSystem, str]:
        # Once: opening object storage takes longer than reading an image from it.
        return files.resolve(self.images_root)

    def __call__(self, entry: Entry, name: str) -> Picture:
        """Make the pictures of one image; ``name`` is its annotated file's."""
        try:
            image = decode(self._read(entry.path), max_pixels=self.max_pixels)
        except (OSError, ImageError) as error:
            return Picture(None, f"{entry.path}: {error}")
        if self.folder is not None:
            target_fs, target = self.folder
            files.write_atomic(target_fs, files.join(target, name), self._annotate(image, entry))
        small = np.ascontiguousarray(_shrink(image, self.size)[:, :, ::-1])
        return Picture(_jpeg(Image.fromarray(small), THUMBNAIL_QUALITY))

    def _annotate(self, image: np.ndarray, entry: Entry) -> bytes:
        entry = entry.above(self.min_score)
        image = _shrink(image, ANNOTATED_SIZE)
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
        return _jpeg(drawn, ANNOTATED_QUALITY)


def read_thumbnails(
    output: RegionOutput, paths: Sequence[str], images_root: str = ""
) -> list[Picture]:
    """Read images of an output again, and make a thumbnail of each.

    Args:
        output: Says what the paths are relative to, and how large an image may be.
        paths: Of the images, as the output has them.
        images_root: Where the images are now; where they were at the extraction, if empty.
    """
    info = output.info
    draw = Draw(
        images_root or info.images_root or ".",
        Names((), ()),
        thumbnail_size(len(paths)),
        1.0,
        int(info.settings.get("images.max_pixels", MAX_PIXELS)),
        None,
    )
    none = np.empty(0, np.float32)
    labels = (none.astype(np.int32), none) * 2
    entries = [Entry("", path, "", 1, 1, none.reshape(0, 4), *labels) for path in paths]
    return list(in_parallel(draw, entries, paths, os.cpu_count() or 1))


def thumbnail_size(images: int) -> int:
    """Choose the longest side, in pixels, of the thumbnails of a page with so many images."""
    for most, size in THUMBNAIL_SIZES:
        if images <= most:
            return size
    return SMALLEST_THUMBNAIL


def in_parallel(
    draw: Draw, entries: Iterable[Entry], names: Iterable[str], workers: int
) -> Iterator[Picture]:
    """Make the pictures on several threads (Pillow works outside the GIL), in their order."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Picture]] = deque()
        for entry, name in zip(entries, names, strict=True):
            ahead.append(pool.submit(draw, entry, name))
            if len(ahead) > 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return image
    target = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(
        Image.fromarray(image).resize(target, Image.Resampling.LANCZOS, reducing_gap=3)
    )


def _jpeg(image: Image.Image, quality: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality, optimize=True)
    return sink.getvalue()
