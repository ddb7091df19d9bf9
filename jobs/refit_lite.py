"""Refit the classifier of ``lite`` on more photographs: second step of the shipped file's recipe.

    python jobs/refit_lite.py --data COCO --start first.safetensors --output lite.safetensors

Only the classifier is fitted, on the vectors of fixed proposals: minutes instead of hours. The
photographs on which ``train_lite.py`` trained the box head are too easy for it. Those of val2017,
which it never saw, show which values hold for new photographs.

``--folds FOLD0 FOLD1`` also writes two files, each fitted without one half of val2017, and
``tests/benchmarks/lite_accuracy.py --weights FOLD0 FOLD1`` measures each on that half. The shipped
file was fitted on all 569 photographs of a small COCO set, with one thread, from the file that
``train_lite.py`` wrote; git has it as 3bf651d:vlray/detect/lite/lite.safetensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, pairwise_iou
from lite_canvases import Photo, read_photos
from torch import Tensor, nn
from torch.nn import functional
from train_lite import save

from vlray.config.detector import DetectorSection
from vlray.detect.lite.detector import Lite
from vlray.detect.lite.model import BOX_HEAD_DIM, trained_names
from vlray.detect.lite.weights import load_lite

STEPS = 400
BATCH_SIZE = 2048  # regions
BACKGROUND_SHARE = 0.7  # of a batch, as in ``train_lite.py``
LR = 2e-3
DECAY = 2e-3
MATCH_IOU = 0.5

Examples = tuple[Tensor, Tensor]


@torch.inference_mode()
def collect(model: GeneralizedRCNN, photos: list[Photo]) -> list[Examples]:
    """Return the vectors and classes of proposals and true boxes of photographs and mirror images.

    Returns:
        For each photograph (R, FEATURE_DIM) in float16 and (R,); the class after the last is the
        background.
    """
    resize, heads = Lite.resize(DetectorSection()), model.roi_heads
    examples = []
    for photo in photos:
        resized = resize(np.asarray(photo.image)[:, :, ::-1])
        scale = np.tile(np.array(resized.shape[1::-1]) / photo.image.size, 2)
        truth = torch.from_numpy(photo.boxes * scale.astype(np.float32))
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        images = model.preprocess_image([{"image": pixels}, {"image": pixels.flip(2)}])
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        truths = [Boxes(truth), Boxes(_mirrored(truth, resized.shape[1]))]
        boxes = [
            Boxes.cat([of_image.proposal_boxes, true])
            for of_image, true in zip(proposals, truths, strict=True)
        ]
        pooled = heads.box_pooler([features[name] for name in heads.in_features], boxes)
        of_photo = torch.from_numpy(photo.classes)
        classes = [
            _labels(b, t, of_photo, heads.num_classes) for b, t in zip(boxes, truths, strict=True)
        ]
        examples.append((heads.box_head(pooled).half(), torch.cat(classes)))
    return examples


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def _labels(boxes: Boxes, truth: Boxes, classes: Tensor, background: int) -> Tensor:
    """Return the class of the true box that each box overlaps most, or the background."""
    if not len(truth):
        return torch.full((len(boxes),), background)
    overlap, best = pairwise_iou(boxes, truth).max(dim=1)
    return classes[best].where(overlap >= MATCH_IOU, background)


def refit(model: GeneralizedRCNN, examples: list[Examples], seed: int) -> None:
    """Fit the classifier, starting from its weights, by logistic regression."""
    vectors, classes = (torch.cat(parts).clone() for parts in zip(*examples, strict=True))
    predictor = model.roi_heads.box_predictor
    generator = torch.Generator().manual_seed(seed)
    objects = (classes < model.roi_heads.num_classes).nonzero().flatten()
    background = (classes == model.roi_heads.num_classes).nonzero().flatten()
    mean = vectors.float().mean(0)
    scale = 10 / (vectors.float().std(0).clamp(min=0.05) * vectors.shape[1] ** 0.5)
    change = nn.Linear(vectors.shape[1], model.roi_heads.num_classes + 1)
    nn.init.zeros_(change.weight)
    nn.init.zeros_(change.bias)
    optimizer = torch.optim.AdamW(change.parameters(), lr=LR, weight_decay=0)
    num_background = int(BATCH_SIZE * BACKGROUND_SHARE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * min(1.0, (STEPS - step) / (0.7 * STEPS))
        rows = torch.cat(
            [
                objects[
                    torch.randint(len(objects), (BATCH_SIZE - num_background,), generator=generator)
                ],
                background[torch.randint(len(background), (num_background,), generator=generator)],
            ]
        )
        x = vectors[rows].float()
        with torch.no_grad():
            before, _ = predictor(x)
        logits = before + change((x - mean) * scale)
        loss = functional.cross_entropy(logits, classes[rows])
        loss = loss + DECAY * change.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{STEPS} loss {float(loss.detach()):.3f}", flush=True)
    with torch.no_grad():
        weight = change.weight * scale
        predictor.cls_score.weight += weight[:, :BOX_HEAD_DIM]
        predictor.cls_stages.weight += weight[:, BOX_HEAD_DIM:]
        predictor.cls_score.bias += change.bias - weight @ mean


def main() -> None:
    """Read the options, collect vectors, refit and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in COCO's layout")
    parser.add_argument("--start", type=Path, required=True, help="file of train_lite.py")
    parser.add_argument("--output", type=Path, default=Path("lite.safetensors"))
    parser.add_argument("--folds", type=Path, nargs=2, default=[], help="files without a half each")
    parser.add_argument("--images", type=int, default=0, help="images of each split; 0: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    model, obj_names = load_lite(args.start)
    train = collect(model, read_photos(args.data, "train2017", args.images)[0])
    val = collect(model, read_photos(args.data, "val2017", args.images)[0])
    for fold, output in enumerate([*args.folds, args.output]):
        examples = train + (val if output == args.output else val[1 - fold :: 2])
        model, _ = load_lite(args.start)
        refit(model, examples, args.seed)
        names = trained_names(model)
        weights = {name: value for name, value in model.state_dict().items() if name in names}
        save(weights, list(obj_names), output)
        print(f"wrote {output} from {len(examples)} photographs", flush=True)


if __name__ == "__main__":
    main()
