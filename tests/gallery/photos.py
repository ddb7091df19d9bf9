"""Made-up photographs with regions, and images that failed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Photo:
    """An image and its regions: (x1, y1, x2, y2, object, score, attribute, score)."""

    image_id: str
    path: str
    regions: Sequence[tuple[float, ...]]
    split: str = ""
    height: int = 60
    width: int = 80
    on_disk: bool = True

    def pixels(self) -> np.ndarray:
        """Grey, and each region filled with a colour of its own."""
        image = np.full((self.height, self.width, 3), 90, np.uint8)
        for index, (x1, y1, x2, y2, *_) in enumerate(self.regions):
            image[int(y1) : int(y2), int(x1) : int(x2)] = (200, 60 + 40 * index, 30)
        return image


def jpeg(photo: Photo) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(photo.pixels()).save(sink, "JPEG", quality=95)
    return sink.getvalue()


PHOTOS = (
    Photo(
        "84002",
        "train/COCO_train2014_000000084002.jpg",
        # Not sorted by score, as a detector with several rules may leave them.
        [
            (30, 5, 75, 55, 2, 0.64, 1, 0.05),
            (5, 5, 25, 25, 0, 0.97, 0, 0.8),
            (8, 8, 20, 20, 1, 0.12, 0, 0.4),
        ],
        "train",
    ),
    Photo("a/b c", "train/a/b c.png", [(0, 0, 80, 60, 2, 0.5, 1, 0.9)], "train"),
    Photo(
        "</script><img src=x onerror=alert(1)>",
        "val/</script> & \"quoted\" 'file'.jpg",
        [(10, 10, 40, 50, 3, 0.88, 0, 0.02)],
        "val",
    ),
    Photo("\u732b \u2028 \U0001f34a ${js}", "val/\u732b.jpg", [], "val"),
    Photo(
        "gone",
        "val/gone.jpg",
        [(10, 10, 40, 50, 0, 0.7, 0, 0.5), (1, 1, 9, 9, 0, 0.4, 0, 0.5)],
        "val",
        on_disk=False,
    ),
)

FAILED = (
    ("bad", "val/bad <i>.jpg", "val", "decode", "ImageError", "not an image: <html>"),
    ("worse", "train/worse.jpg", "train", "detect", "RuntimeError", "out of memory"),
)
