"""Photographs to measure on: real ones where there are enough, else crops of scikit-image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
from PIL import Image

COCO = Path(__file__).parents[2].parent / "shared" / "fixtures" / "coco_mini"
SOURCES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


def link_photographs(folder: Path, count: int) -> str:
    """Fill a folder with ``count`` photographs and say which; the same one has several names
    where there are not enough."""
    folder.mkdir(parents=True)
    files, what = sorted(COCO.glob("*2017/*.jpg")), "photographs of COCO 2017"
    if not files:
        files, what = crop_photographs(folder.parent / "crops"), "crops of scikit-image's"
    for index in range(count):
        source = files[index % len(files)]
        (folder / f"{index:06d}-{source.name}").symlink_to(source)
    return f"{count:,} files, {min(count, len(files)):,} different {what}"


def crop_photographs(folder: Path) -> list[Path]:
    """Cut 256 pieces of COCO's usual sizes out of scikit-image's photographs."""
    folder.mkdir(parents=True)
    data = Path(skimage.__file__).parent / "data"
    rng = np.random.default_rng(0)
    for index in range(256):
        with Image.open(data / SOURCES[index % len(SOURCES)]) as source:
            image = source.convert("RGB")
        width, height = [(640, 480), (640, 427), (480, 640), (500, 375)][index % 4]
        scale = max(width / image.width, height / image.height, 1) * 1.2
        image = image.resize((int(image.width * scale), int(image.height * scale)))
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        box = (left, top, left + width, top + height)
        image.crop(box).save(folder / f"crop-{index:03d}.jpg", quality=92)
    return sorted(folder.iterdir())
