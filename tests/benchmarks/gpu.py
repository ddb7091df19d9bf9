"""Everything to measure on the day that a GPU comes: parity, extraction, training.

    python -m tests.benchmarks.gpu --out gpu.json [--hf FOLDER]       # under 9 minutes on an H200
    python -m tests.benchmarks.gpu --device cpu --quick               # tries the script out

Parts: ``parity`` compares the regions of each precision with those of the CPU in fp32. ``speed``
detects in photographs of 600 x 1,000 pixels at each batch size, beside matrix products in the same
precision, and beside Hugging Face's loop if FOLDER holds modeling_frcnn.py. ``actor`` runs the
stages of ``vlray extract`` with their threads on files. ``training`` takes steps of LXMERT and
VisualBERT. A part that fails is reported, and the others run. The numbers are printed as tables and
written as JSON.

It needs torch, torchvision, transformers, pyarrow and Detectron2's Python source, but neither Ray
nor a network: install what the machine lacks into a folder (`uv pip install --target`), and carry
it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import vlray
from tests.benchmarks import gpu_training
from tests.benchmarks.report import print_header, print_table
from tests.benchmarks.vg_speed import peer
from tests.detect.detectron_networks import write_network
from tests.detect.vg_flavours import write_hf
from tests.detect.vg_weights import State, random_vg_state
from vlray.cluster.tf32 import set_tf32, tf32
from vlray.comparison.matching import match
from vlray.config.detector import DetectorSection
from vlray.config.training import Precision
from vlray.detect.d2.detector import Detectron
from vlray.detect.lite.detector import Lite
from vlray.detect.visual_genome.detector import VgCaffe, VgDetector, VgPbua
from vlray.detect.visual_genome.model import DTYPES, build_vg
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.images.decode import as_bgr
from vlray.regions.batch import RegionBatch

Rows = list[dict[str, Any]]
Detect = Callable[[list[np.ndarray], np.ndarray], RegionBatch]

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
PRESETS: tuple[type[VgDetector], ...] = (VgCaffe, VgPbua)
NAMES = ("coffee.png", "motorcycle_left.png")
IOU = 0.9


class Bench:
    """Options of a run, and the weights that its parts share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.quick, self.hf, self.rounds = args.quick, args.hf, 1 if args.quick else args.rounds
        self.precisions = PRECISIONS[:1] if args.quick else PRECISIONS
        self.batches = (1, 2) if args.quick else (1, 8)
        # As small as the presets' proposals allow, or as large as COCO's photographs become.
        self.size = (
            {"min_size": 96, "max_size": 160} if args.quick else {"min_size": 600, "max_size": 1000}
        )
        self.topk = {"post_nms_topk": 10} if args.quick else {}
        self.ends = time.monotonic() + 60 * args.minutes
        self._state: State = {}

    @property
    def state(self) -> State:
        """Random weights that find regions with different scores."""
        self._state = self._state or random_vg_state()
        return self._state

    def finder(
        self, preset: type[VgDetector], precision: str, backbone: str, device: torch.device
    ) -> tuple[RegionFinder, list[np.ndarray], np.ndarray]:
        """Return a detector, and two resized photographs with their sizes."""
        options = DetectorSection(name=preset.name, **self.size, **self.topk)
        network = build_vg(self.state, precision, device, backbone)
        images, hw = photographs(preset.resize(options))
        return RegionFinder(network, preset.rules(options), options), images, hw

    def seconds(self, call: Callable[[], object]) -> list[float]:
        """Return the seconds of each round; the first call, which warms up, is not counted."""
        took = []
        for _ in range(self.rounds + 1):
            began = time.perf_counter()
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
        return took[1:]


def main() -> None:
    """Read the options, run the parts, print their tables and write the JSON."""
    parts: dict[str, Callable[[Bench], Rows]] = {
        "parity": parity,
        "speed": speed,
        "actor": actor,
        "training": training,
    }
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts])
    parser.add_argument("--hf", type=Path, help="folder with modeling_frcnn.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.5, help="then the rest is left out")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu: torch sees none here; --device cpu --quick tries this out")
        return
    bench = Bench(args)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print_header(f"gpu: one {name}", ["python", "-m", "tests.benchmarks.gpu", *sys.argv[1:]])
    set_tf32(False)
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "parts": {}}
    failed = []
    for part in args.parts:
        try:
            rows = parts[part](bench)
        except Exception:
            traceback.print_exc()
            failed.append(part)
            continue
        if not rows:
            print(f"\n{part}: left out, as the time is over (--minutes)")
            continue
        result["parts"][part] = rows
        print(f"\n{part}")
        print_table([*rows[0]], [[*row.values()] for row in rows])
        if args.out:
            args.out.write_text(json.dumps(result, indent=1))
    if failed:
        sys.exit(f"gpu: failed: {', '.join(failed)}")


def photographs(resize: Callable[[np.ndarray], np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return two photographs of 300 x 500 pixels, resized, and their original sizes."""
    data = Path(skimage.__file__).parent / "data"
    raw = [np.ascontiguousarray(as_bgr(data / name)[:300, :500]) for name in NAMES]
    return [resize(image) for image in raw], np.array([image.shape[:2] for image in raw], np.int32)


def parity(bench: Bench) -> Rows:
    """Compare each precision with the CPU in fp32: boxes that match, and their vectors."""
    rows: Rows = []
    for preset in PRESETS:
        find, images, hw = bench.finder(preset, "fp32", "fp32", torch.device("cpu"))
        expected = find(images, hw)
        for precision in bench.precisions:
            for backbone in dict.fromkeys(("fp32", precision)):
                find, *_ = bench.finder(preset, precision, backbone, bench.device)
                found = find(images, hw)
                rows.append(
                    {"preset": preset.name, "res5": precision, "backbone": backbone}
                    | compared(expected, found)
                )
    return rows


def compared(expected: RegionBatch, found: RegionBatch) -> dict[str, float]:
    """Return the share of boxes that match at an IoU of 0.9, and their vectors' mean cosine."""
    matched, most, cosines = 0, 0, []
    for one, two in zip(expected, found, strict=True):
        pairs = match(one.boxes, two.boxes, one.obj_ids, two.obj_ids, IOU)
        x, y = one.visual_feats[pairs.a], two.visual_feats[pairs.b]
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosines += ((x * y).sum(axis=1) / norms).tolist()
        matched, most = matched + len(x), most + max(len(one.boxes), len(two.boxes))
    return {"matched %": 100 * matched / most, "cosine": float(np.mean(cosines))}


def speed(bench: Bench) -> Rows:
    """Measure images/s of each detector, precision and batch size, and TFLOP/s beside a matmul."""
    products = {precision: matmul(bench, precision) for precision in bench.precisions}
    rows: Rows = []
    for preset in PRESETS:
        for precision in bench.precisions:
            for backbone in dict.fromkeys(("fp32", precision)):
                find, images, hw = bench.finder(preset, precision, backbone, bench.device)
                name = f"{preset.name} {precision}/{backbone}"
                rows += rates(bench, name, find, images, hw, products[precision])
    with tempfile.TemporaryDirectory() as folder:
        fpn = write_network(Path(folder), "FPN").options(device=bench.device.type, **bench.size)
        lite = DetectorSection(device=bench.device.type)
        for name, detector, options in (("lite", Lite, lite), ("FPN, narrow", Detectron, fpn)):
            images, hw = photographs(detector.resize(options))
            rows += rates(bench, name, detector(options), images, hw, products["fp32"])
        if bench.hf:
            weights = write_hf(bench.state, Path(folder) / "pytorch_model.bin")
            images, hw = photographs(VgPbua.resize(DetectorSection(**bench.size)))
            took = bench.seconds(peer(bench.hf, weights, images[0], bench.device.type))
            rows.append(row("Hugging Face's loop", 1, took, 0, 0))
    return rows


def rates(
    bench: Bench, name: str, find: Detect, images: list[np.ndarray], hw: np.ndarray, product: float
) -> Rows:
    """Measure a detector at each batch size; none where the time is over."""
    rows: Rows = []
    for size in bench.batches:
        if time.monotonic() > bench.ends:
            break
        some = [images[0]] * size
        sizes = np.repeat(hw[:1], size, axis=0)
        with FlopCounterMode(display=False) as counter:
            find(some, sizes)
        flop = counter.get_total_flops() if bench.device.type == "cuda" else 0
        took = bench.seconds(lambda some=some, sizes=sizes: find(some, sizes))  # type: ignore[misc]
        rows.append(row(name, size, took, flop, product))
    return rows


def row(name: str, size: int, took: list[float], flop: float, product: float) -> dict[str, Any]:
    """Return the cells of a detector: median, least and most images/s, and TFLOP/s."""
    return {
        "detector": name,
        "batch": size,
        "images/s": size / statistics.median(took),
        "least": size / max(took),
        "most": size / min(took),
        "TFLOP/s": flop / statistics.median(took) / 1e12,
        "of a matmul": product,
    }


def matmul(bench: Bench, precision: Precision) -> float:
    """Return the TFLOP/s of a product of two square matrices."""
    side = 256 if bench.quick else 8192
    with tf32(precision == "tf32"):
        a = torch.rand(side, side, device=bench.device, dtype=DTYPES[precision])
        took = bench.seconds(lambda: a @ a)
    return 2 * side**3 / statistics.median(took) / 1e12


def actor(bench: Bench) -> Rows:
    """Measure ``vlray extract`` without Ray: files are decoded while the device computes.

    The rate is that of the additional images of a larger run, without loading the detector.
    """
    preset, precision = VgPbua, bench.precisions[min(2, len(bench.precisions) - 1)]
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = write_hf(bench.state, folder / "model.safetensors")
        raw = Image.open(Path(skimage.__file__).parent / "data" / NAMES[0]).convert("RGB")
        for count in (2, 8) if bench.quick else (64, 512):
            source = folder / f"{count}"
            source.mkdir()
            for number in range(count):
                crop = raw.crop((number % 50, number % 30, 500 + number % 50, 300 + number % 30))
                crop.save(source / f"{number:05}.jpg", quality=90)
            began = time.perf_counter()
            vlray.extract(
                str(source),
                str(folder / f"out{count}"),
                preset.name,
                weights=str(weights),
                device=bench.device.type,
                precision=precision,
                cluster={"address": "none"},
                **bench.size,
                **bench.topk,
            )
            seconds[count] = time.perf_counter() - began
    few, many = seconds
    rate = (many - few) / (seconds[many] - seconds[few])
    return [{"detector": f"{preset.name} {precision}", "images": many, "images/s": rate}]


def training(bench: Bench) -> Rows:
    """Measure steps of LXMERT and VisualBERT at several batch sizes."""
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    peaks = next((found for key, found in gpu_training.PEAKS.items() if key in name), {})
    rows: Rows = []
    for model in ("lxmert", "visualbert"):
        flop = gpu_training.count_flop(model)
        for size in (2,) if bench.quick else (32, 256):
            for precision in bench.precisions:
                if time.monotonic() > bench.ends:
                    return rows
                steps = 1 if bench.quick else 20
                found, gib = gpu_training.measure(
                    model, bench.device, size, precision, steps, bench.rounds
                )
                rate = statistics.median(found) if found else 0.0
                share = 100 * rate * flop / 1e12 / peaks[precision] if precision in peaks else 0.0
                rows.append(
                    {"model": model, "batch": size, "precision": precision, "examples/s": rate}
                    | {"TFLOP/s": rate * flop / 1e12, "% of peak": share, "GiB": gib}
                )
    return rows


if __name__ == "__main__":
    main()
