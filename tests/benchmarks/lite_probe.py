"""How much a region's vector tells about its class: linear probes of ``lite`` and of ImageNet.

    python tests/benchmarks/lite_probe.py --data COCO

Vectors are pooled from true boxes without crowds, at ``lite``'s input size. A linear classifier of
each kind of vector is trained on train2017 and measured on val2017, neither of which ImageNet's
features were trained on. The boxes of train2017 trained ``lite`` itself, so its vectors separate
them better than new ones; the second column avoids this by five folds of val2017's images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

# isort: off
from vlray.detect.lite.model import BOX_HEAD_DIM, STAGES, build_lite  # first: see d2/compat.py
# isort: on

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.ops import roi_align

from vlray.config.detector import DetectorSection
from vlray.detect.lite import WEIGHTS
from vlray.detect.lite.detector import Lite
from vlray.detect.lite.weights import load_lite

FIXTURE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "coco_mini"
DECAYS = (0.003, 0.01, 0.03)
FOLDS = 5
WRITTEN = "written: box head + stages"
CONCATENATED = (
    ("ImageNet's stages", "ImageNet's last"),
    ("box head", "ImageNet's stages"),
)


@dataclass(frozen=True)
class Split:
    """Vectors of all true boxes of a split.

    Attributes:
        vectors: By kind, each of shape (R, its length).
        classes: (R,)
        images: (R,), the position of each box's image in the split.
    """

    vectors: dict[str, Tensor]
    classes: Tensor
    images: Tensor


def main() -> None:
    """Read the options, pool the vectors, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FIXTURE)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    lite, obj_names = load_lite(args.weights)
    imagenet = build_lite(len(obj_names)).eval()
    train = pool(args.data, "train2017", args.images, lite, imagenet)
    val = pool(args.data, "val2017", args.images, lite, imagenet)
    print(f"{len(train.classes)} boxes of train2017, {len(val.classes)} of val2017")
    print(
        f"majority class: {float((val.classes == train.classes.mode().values).float().mean()):.3f}"
    )
    print("vectors                                      length  train to val  folds of val")
    for name, vectors in train.vectors.items():
        decay = best_decay(vectors, train.classes, train.images)
        across = accuracy(vectors, train.classes, val.vectors[name], val.classes, decay)
        within = folds_accuracy(val.vectors[name], val.classes, val.images, decay)
        print(f"{name:45}{vectors.shape[1]:5}  {across:.3f}         {within:.3f}", flush=True)


@torch.no_grad()
def pool(
    data: Path, split: str, limit: int, lite: GeneralizedRCNN, imagenet: GeneralizedRCNN
) -> Split:
    """Pool the vectors of a split's true boxes."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(data / "annotations" / f"instances_{split}.json")
    index_of = {category: index for index, category in enumerate(sorted(coco.getCatIds()))}
    resize = Lite.resize(DetectorSection())
    vectors: dict[str, list[Tensor]] = {}
    classes: list[int] = []
    images: list[int] = []
    for position, image_id in enumerate(sorted(coco.imgs)[: limit or None]):
        rows = coco.loadAnns(coco.getAnnIds([image_id], iscrowd=False))
        rows = [row for row in rows if min(row["bbox"][2:]) >= 1]
        if not rows:
            continue
        with Image.open(data / split / coco.imgs[image_id]["file_name"]) as file:
            image = np.asarray(file.convert("RGB"))[:, :, ::-1]
        resized = resize(image)
        xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        boxes *= torch.tensor(resized.shape[1::-1]).repeat(2) / torch.tensor(
            image.shape[1::-1]
        ).repeat(2)
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        for name, part in pool_image(pixels, boxes, lite, imagenet).items():
            vectors.setdefault(name, []).append(part)
        classes += [index_of[row["category_id"]] for row in rows]
        images += [position] * len(rows)

    joined = {name: torch.cat(parts) for name, parts in vectors.items()}
    for names in CONCATENATED:
        joined[" + ".join(names)] = torch.cat([joined[name] for name in names], dim=1)
    return Split(joined, torch.tensor(classes), torch.tensor(images))


def pool_image(
    image: Tensor, boxes: Tensor, lite: GeneralizedRCNN, imagenet: GeneralizedRCNN
) -> dict[str, Tensor]:
    """Return every kind of vector for the boxes of one resized image."""
    pixels = lite.preprocess_image([{"image": image}]).tensor
    features, heads = lite.backbone(pixels), lite.roi_heads
    pooled = heads.box_pooler([features[name] for name in heads.in_features], [Boxes(boxes)])
    written = heads.box_head(pooled)
    vectors = {
        WRITTEN: written,
        "box head": written[:, :BOX_HEAD_DIM],
        "stages": written[:, BOX_HEAD_DIM:],
    }
    features = imagenet.backbone(pixels)
    for stage in STAGES:
        vectors[f"ImageNet's {stage}"] = roi_mean(
            features[stage], boxes, float(stage.removeprefix("stage"))
        )
    parts = [vectors[f"ImageNet's {stage}"] for stage in STAGES]
    vectors["ImageNet's stages"] = torch.cat(parts, dim=1)
    vectors["ImageNet's last"] = roi_mean(features["semantic"], boxes, 32)
    return vectors


def roi_mean(features: Tensor, boxes: Tensor, stride: float) -> Tensor:
    """Average a feature map over boxes in pixels of the resized image."""
    return roi_align(features, [boxes], 1, 1 / stride, sampling_ratio=4, aligned=True).flatten(1)


def best_decay(vectors: Tensor, classes: Tensor, images: Tensor) -> float:
    """Choose the weight decay on every fifth image of the split, not seen in training."""
    held = images % FOLDS == 0
    scores = [
        accuracy(vectors[~held], classes[~held], vectors[held], classes[held], decay)
        for decay in DECAYS
    ]
    return DECAYS[int(np.argmax(scores))]


def folds_accuracy(vectors: Tensor, classes: Tensor, images: Tensor, decay: float) -> float:
    """Return the mean accuracy over all boxes, each classified without its fold of images."""
    right = 0.0
    for fold in range(FOLDS):
        held = images % FOLDS == fold
        score = accuracy(vectors[~held], classes[~held], vectors[held], classes[held], decay)
        right += score * int(held.sum())
    return right / len(classes)


def accuracy(
    vectors: Tensor, classes: Tensor, new_vectors: Tensor, new_classes: Tensor, decay: float
) -> float:
    """Fit a multinomial logistic regression; return its accuracy on new vectors."""
    mean, std = vectors.mean(0), vectors.std(0).clamp(min=1e-3)
    x, new = (vectors - mean) / std, (new_vectors - mean) / std
    scale = x.shape[1] ** -0.5  # the same decay suits short and long vectors
    x, new = x * scale, new * scale
    linear = nn.Linear(x.shape[1], int(max(classes.max(), new_classes.max())) + 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(linear(x), classes, reduction="sum")
        value = (value + decay * linear.weight.square().sum()) / len(x)
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return float((linear(new).argmax(1) == new_classes).float().mean())


if __name__ == "__main__":
    main()
