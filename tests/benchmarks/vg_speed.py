"""Images a second of the Visual Genome detector against Hugging Face's loop, without Ray.

    python -m tests.benchmarks.vg_speed --hf FOLDER                          # a CPU: fp32, bf16
    python -m tests.benchmarks.vg_speed --hf FOLDER --device cuda --batches 1 8 \
        --precisions fp32 tf32 bf16 fp16

FOLDER holds your own copy of Hugging Face's modeling_frcnn.py (lxmert/ of
https://github.com/huggingface/transformers-research-projects); without it, vlray is measured alone.
Both get the same resized photograph, 800 x 1,067, the same random weights, and pool 300 proposals.
They take turns, and the tables give the medians of the rounds. It needs torch, torchvision and
Detectron2's Python source, no Ray.

The RoI stage is pooling, res5 and the mean: 1.76 TFLOP for 300 regions. Its rate stands beside
that of a product of two square matrices of 4,096 in the same precision and the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# MKL and libgomp take fewer threads while others use the machine; both sides get the same.
os.environ.update(MKL_DYNAMIC="FALSE", OMP_DYNAMIC="FALSE")

import numpy as np
import skimage
import torch

from tests.benchmarks.report import print_header, print_table, verdict
from tests.benchmarks.vg_peers import MEAN, hf_network
from tests.detect.vg_flavours import write_hf
from tests.detect.vg_weights import random_vg_state
from vlray.config.detector import DetectorSection
from vlray.detect.visual_genome.detector import VgPbua
from vlray.detect.visual_genome.model import DTYPES, POOL_SIZE, VgNetwork, build_vg
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.images.decode import as_bgr

SIDE, PROPOSALS = 4096, 300
CONVOLUTIONS = 1024 * (512 + 2048) + 3 * (9 * 512 * 512 + 512 * 2048) + 2 * 2048 * 512
ROI_FLOP = 2 * POOL_SIZE**2 * PROPOSALS * CONVOLUTIONS
TARGETS = {"fp32": 1.9, "bf16": 3.7}
PEER, OURS = "Hugging Face", "vlray"

Seconds = dict[str, list[float]]


def main() -> None:
    """Read the options, measure in turns, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.vg_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hf", type=Path, help="folder with modeling_frcnn.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="images of a pass")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print_header(f"Visual Genome detector on {_device(args.device)}", sys.argv)
    state = random_vg_state()
    photograph = _photograph()
    parts: dict[str, Callable[[], object]] = {}
    for precision in args.precisions:
        network = build_vg(state, precision, args.device)
        parts |= _ours(network, photograph, args.batches)
        parts[f"matmul {precision}"] = _matmul(precision, args.device)
    if args.hf:
        with tempfile.TemporaryDirectory() as name:
            weights = write_hf(state, Path(name) / "pytorch_model.bin")
            parts[PEER] = peer(args.hf, weights, photograph, args.device)
    seconds: Seconds = {name: [] for name in parts}
    for number in range(args.rounds + 1):  # the first one warms up
        for name, part in parts.items():
            took = _timed(part, args.device)
            if number:
                seconds[name].append(took)
    _print(seconds, args.precisions, args.batches)


def _photograph() -> np.ndarray:
    """Give 640 x 480 pixels of a photograph, resized as the preset does: 800 x 1,067."""
    path = Path(skimage.__file__).parent / "data" / "coffee.png"
    raw = as_bgr(path)[:400, :533]
    resized = VgPbua.resize(DetectorSection(name="vg-pbua"))(raw)
    assert resized.shape[:2] in ((800, 1066), (800, 1067)), resized.shape
    return resized


def _ours(
    network: VgNetwork, photograph: np.ndarray, batches: list[int]
) -> dict[str, Callable[[], object]]:
    precision = network.precision
    options = DetectorSection(name="vg-pbua", precision=precision)
    find = RegionFinder(network, VgPbua.rules(options), options)
    hw = np.array([[480, 640]], np.int32)
    counts: list[int] = []
    pool = network.pool
    network.pool = lambda c4, rois: (counts.extend(map(len, rois)), pool(c4, rois))[1]
    find([photograph], hw)
    assert counts == [PROPOSALS], f"{counts} proposals instead of {PROPOSALS}"
    network.pool = pool
    with torch.inference_mode():
        c4 = network.c4(
            torch.from_numpy(photograph.astype(np.float32))
            .permute(2, 0, 1)[None]
            .to(network.device)
        )
        rois = _boxes(network.device)

    @torch.inference_mode()
    def roi_stage() -> object:
        return network.pool(c4, [rois])

    def found(batch: int) -> Callable[[], object]:
        return lambda: find([photograph] * batch, hw.repeat(batch, axis=0))

    named = {f"{OURS} {precision} {batch}": found(batch) for batch in batches}
    return named | {f"RoI stage {precision}": roi_stage}


def _boxes(device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(PROPOSALS, 2, generator=generator) * 600
    sides = 40 + 360 * torch.rand(PROPOSALS, 2, generator=generator)
    return torch.cat([corners, corners + sides], 1).to(device)


def _matmul(precision: str, device: str) -> Callable[[], object]:
    a, b = (torch.randn(SIDE, SIDE, device=device).to(DTYPES[precision]) for _ in range(2))

    def product() -> object:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        found = a @ b
        torch.backends.cuda.matmul.allow_tf32 = before
        return found

    return product


def peer(folder: Path, weights: Path, photograph: np.ndarray, device: str) -> Callable[[], object]:
    _, model = hf_network(folder, str(weights))
    model.to(device)
    pixels = torch.from_numpy(photograph.astype(np.float32)) - torch.tensor(MEAN)
    images = pixels.permute(2, 0, 1)[None].to(device)
    sizes = torch.tensor([photograph.shape[:2]], device=device)
    scales = torch.tensor([[480, 640]], device=device) / sizes

    @torch.no_grad()
    def detect() -> object:
        return model(images, sizes, scales_yx=scales, return_tensors="pt")

    return detect


def _timed(part: Callable[[], object], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    part()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _print(seconds: Seconds, precisions: list[str], batches: list[int]) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    peer = medians.get(PEER)
    if peer:
        rows.append([PEER, "fp32", 1, peer, 1 / peer, 1.0, ""])
    for precision in precisions:
        for batch in batches:
            each = medians[f"{OURS} {precision} {batch}"] / batch
            times = peer / each if peer else float("nan")
            target = TARGETS.get(precision) if peer and batch == 1 else None
            judged = verdict(times, target, at_least=True) if target else ""
            rows.append([OURS, precision, batch, each, 1 / each, times, judged])
    columns = ("", "precision", "batch", "s/image", "images/s", "times its images/s", "target")
    print_table(columns, rows)
    rows = []
    for precision in precisions:
        stage = ROI_FLOP / medians[f"RoI stage {precision}"] / 1e9
        matmul = 2 * SIDE**3 / medians[f"matmul {precision}"] / 1e9
        judged = verdict(stage / matmul, 1, at_least=True)
        rows.append(
            [precision, medians[f"RoI stage {precision}"], stage, matmul, stage / matmul, judged]
        )
    columns = ("precision", "RoI stage, s", "GFLOP/s", "matmul GFLOP/s", "of it", "target on a CPU")
    print_table(columns, rows)


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else f"{torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
