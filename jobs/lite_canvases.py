"""Training images of ``train_lite.py``, and the canvases composed from them by cutting and scaling.

With few photographs, this augmentation is the source of most of what the detector learns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

CANVAS_SIDE = 448  # pixels
SHORT_SIDES = (288, 864)  # of a photograph on it, log-uniform, pixels; what leaves it is cut
ASPECT_JITTER = 1.2
MOSAIC_PROB = 0.25  # four photographs on one canvas, each at half the size
MAX_PASTED = 3  # objects pasted onto a canvas, their classes drawn uniformly
PASTED_SIDES = (32, 288)  # pixels, longer side
MIN_VISIBLE = 0.3  # share of a box's area; objects that are cut or covered further are dropped
REPEAT_THRESH = 0.03  # images of classes rarer than this repeat (LVIS, arXiv:1908.03195)


@dataclass(frozen=True)
class Photo:
    """One training image and its objects, without crowds."""

    image: Image.Image
    boxes: NDArray[np.float32]  # (R, 4), x1, y1, x2, y2
    classes: NDArray[np.int64]  # (R,)


@dataclass
class Canvas:
    """A training image under construction."""

    image: Image.Image
    boxes: list[NDArray[np.float32]]
    classes: list[int]

    def add(
        self, boxes: NDArray[np.float32], classes: NDArray[np.int64], tile: tuple[int, ...]
    ) -> None:
        """Add the boxes that lie in a part of the canvas by at least ``MIN_VISIBLE``."""
        for box, class_ in zip(boxes, classes, strict=True):
            seen = _clip(box, tile)
            if _area(seen) >= MIN_VISIBLE * _area(box) and min(seen[2:] - seen[:2]) >= 4:
                self.boxes.append(seen)
                self.classes.append(int(class_))


def read_photos(data: Path, split: str, limit: int = 0) -> tuple[list[Photo], list[str]]:
    """Read the first ``limit`` images of a split (0: all), by id, and the class names."""
    coco = COCO(data / "annotations" / f"instances_{split}.json")
    categories = sorted(coco.getCatIds())
    index_of = {category: index for index, category in enumerate(categories)}
    photos = []
    for image_id in sorted(coco.imgs)[: limit or None]:
        with Image.open(data / split / coco.imgs[image_id]["file_name"]) as file:
            image = file.convert("RGB")
        rows = coco.loadAnns(coco.getAnnIds([image_id], iscrowd=False))
        rows = [row for row in rows if min(row["bbox"][2:]) >= 1]
        xywh = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        classes = np.array([index_of[row["category_id"]] for row in rows], np.int64)
        photos.append(Photo(image, boxes, classes))
    return photos, [coco.cats[category]["name"] for category in categories]


class Photos:
    """Training images in memory, from which canvases are composed."""

    def __init__(self, photos: list[Photo], obj_names: list[str], rng: np.random.Generator) -> None:
        self.photos, self.obj_names, self.rng = photos, obj_names, rng
        self.cutouts: dict[int, list[tuple[int, int]]] = {}
        for index, photo in enumerate(self.photos):
            for row, (x1, y1, x2, y2) in enumerate(photo.boxes):
                if max(x2 - x1, y2 - y1) >= PASTED_SIDES[0] and min(x2 - x1, y2 - y1) >= 12:
                    key = int(photo.classes[row])
                    self.cutouts.setdefault(key, []).append((index, row))

    def sample_weights(self) -> NDArray[np.float64]:
        """Return the probability of drawing each image, higher for rare classes."""
        counts = np.zeros(len(self.obj_names))
        for photo in self.photos:
            counts[np.unique(photo.classes)] += 1
        repeats = np.maximum(1.0, np.sqrt(REPEAT_THRESH * len(self.photos) / np.maximum(counts, 1)))
        weights = np.array([repeats[photo.classes].max(initial=1.0) for photo in self.photos])
        return weights / weights.sum()

    def canvas(self, index: int) -> dict[str, object]:
        """Compose one training example around an image, in Detectron2's form."""
        rng, side = self.rng, CANVAS_SIDE
        fill = tuple(int(value) for value in rng.integers(90, 160, 3))
        canvas = Canvas(Image.new("RGB", (side, side), fill), [], [])
        if rng.random() < MOSAIC_PROB:
            x, y = (int(value) for value in rng.uniform(0.35, 0.65, 2) * side)
            tiles = ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side))
            others = rng.integers(0, len(self.photos), 3)
            for tile, source in zip(tiles, [index, *others], strict=True):
                self._place(canvas, self.photos[source], tile, 0.5)
        else:
            self._place(canvas, self.photos[index], (0, 0, side, side), 1.0)
        self._paste_cutouts(canvas)
        image = _jitter_colours(np.asarray(canvas.image), rng)
        instances = Instances((side, side))
        boxes = np.array(canvas.boxes, np.float32).reshape(-1, 4)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.tensor(canvas.classes, dtype=torch.int64)
        bgr = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))
        return {"image": torch.from_numpy(bgr), "instances": instances}

    def _place(
        self, canvas: Canvas, photo: Photo, tile: tuple[int, int, int, int], shrink: float
    ) -> None:
        """Resize, flip and cut a photograph into a part of the canvas."""
        rng = self.rng
        tile_w, tile_h = tile[2] - tile[0], tile[3] - tile[1]
        low, high = np.log(SHORT_SIDES)
        scale = math.exp(rng.uniform(low, high)) * shrink / min(photo.image.size)
        stretch = math.exp(rng.uniform(-1, 1) * math.log(ASPECT_JITTER) / 2)
        scales = np.array([scale * stretch, scale / stretch])
        width, height = (max(int(side), 1) for side in np.array(photo.image.size) * scales)
        image, boxes = photo.image, photo.boxes.copy()
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            boxes[:, [0, 2]] = photo.image.width - boxes[:, [2, 0]]
        boxes *= np.tile(scales, 2).astype(np.float32)
        # If the photograph is larger than its part of the canvas, a window around some object.
        centre = rng.uniform(0, 1, 2) * (width, height)
        if len(boxes) and rng.random() < 0.7:
            row = boxes[rng.integers(len(boxes))]
            centre = (row[:2] + row[2:]) / 2 + rng.normal(0, 0.15, 2) * (tile_w, tile_h)
        offset = []
        for side, room, middle in zip((width, height), (tile_w, tile_h), centre, strict=True):
            if side > room:
                offset.append(-int(np.clip(middle - room / 2, 0, side - room)))
            else:
                offset.append(int(rng.integers(0, room - side + 1)))
        left, top = max(-offset[0], 0), max(-offset[1], 0)
        part_w, part_h = min(width - left, tile_w), min(height - top, tile_h)
        source = (left / scales[0], top / scales[1])
        source += (source[0] + part_w / scales[0], source[1] + part_h / scales[1])
        source = tuple(np.clip(source, 0, np.tile(image.size, 2)))
        part = image.resize((part_w, part_h), Image.Resampling.BILINEAR, box=source)
        canvas.image.paste(part, (tile[0] + max(offset[0], 0), tile[1] + max(offset[1], 0)))
        moved = boxes + np.tile([tile[0] + offset[0], tile[1] + offset[1]], 2)
        canvas.add(moved, photo.classes, tile)

    def _paste_cutouts(self, canvas: Canvas) -> None:
        """Paste objects of rare classes, with some of their surroundings, onto the canvas."""
        rng = self.rng
        for _ in range(rng.integers(0, MAX_PASTED + 1)):
            class_ = int(rng.choice(list(self.cutouts)))
            index, row = self.cutouts[class_][rng.integers(len(self.cutouts[class_]))]
            photo = self.photos[index]
            x1, y1, x2, y2 = photo.boxes[row]
            sides = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
            window = photo.boxes[row] + rng.uniform(0.05, 0.4, 4) * sides * (-1, -1, 1, 1)
            window = np.clip(window, 0, np.tile(photo.image.size, 2))
            longer = max(window[2:] - window[:2])
            low, high = np.log([PASTED_SIDES[0], np.clip(1.5 * longer, 33, PASTED_SIDES[1])])
            scale = math.exp(rng.uniform(low, high)) / longer
            width, height = (max(int(side * scale), 4) for side in window[2:] - window[:2])
            image = photo.image.resize(
                (width, height), Image.Resampling.BILINEAR, box=tuple(map(float, window))
            )
            boxes = (photo.boxes - np.tile(window[:2], 2)) * np.float32(scale)
            if rng.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            corner = rng.integers(0, (CANVAS_SIDE - width + 1, CANVAS_SIDE - height + 1))
            canvas.image.paste(image, tuple(int(value) for value in corner))
            tile = (*corner, corner[0] + width, corner[1] + height)
            hidden = [_area(_clip(box, tile)) / _area(box) for box in canvas.boxes]
            stay = [one <= 1 - MIN_VISIBLE for one in hidden]
            canvas.boxes = [box for box, kept in zip(canvas.boxes, stay, strict=True) if kept]
            canvas.classes = [one for one, kept in zip(canvas.classes, stay, strict=True) if kept]
            canvas.add(boxes + np.tile(corner, 2), photo.classes, tile)


def _area(box: NDArray[np.float32]) -> float:
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))


def _clip(box: NDArray[np.float32], tile: tuple[int, ...]) -> NDArray[np.float32]:
    return np.clip(box, np.tile(tile[:2], 2), np.tile(tile[2:], 2)).astype(np.float32)


def _jitter_colours(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and tint."""
    values = image.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.5, 1.5)
    values = grey + (values - grey) * np.float32(saturation)
    gain = (rng.uniform(0.6, 1.4) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    middle = values.mean()
    values = (values - middle) * gain + middle * np.float32(rng.uniform(0.65, 1.35))
    return np.clip(values, 0, 255).astype(np.uint8)
