"""What half precision changes in the regions of the Visual Genome detector.

    python -m tests.benchmarks.vg_precision [--photographs FOLDER] [--precisions bf16 bf16/bf16]

A precision is that of res5; behind a slash, that of the backbone may follow, otherwise fp32.
Each photograph is run in fp32 and in the others, under both presets, with random weights that give
spread scores. Boxes are matched as ``vlray compare --iou-thresh 0.9`` does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import skimage
import torch

from tests.benchmarks.photographs import SOURCES
from tests.benchmarks.report import print_header, print_table, verdict
from tests.detect.vg_weights import random_vg_state
from vlray.comparison.matching import match
from vlray.config.detector import DetectorSection
from vlray.detect.visual_genome.detector import VgCaffe, VgDetector, VgPbua
from vlray.detect.visual_genome.model import build_vg
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.images.decode import as_bgr
from vlray.regions.batch import RegionBatch

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "fixtures" / "butd"
SKIMAGE = Path(skimage.__file__).parent / "data"
IOU, COSINE, MATCHED = 0.9, 0.999, 0.97
PRESETS: tuple[type[VgDetector], ...] = (VgCaffe, VgPbua)


def main() -> None:
    """Read the options, detect, compare, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.vg_precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--precisions", nargs="+", default=["bf16"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print_header("Half precision against fp32", sys.argv)
    paths = sorted(args.photographs.glob("*.jpg")) or [SKIMAGE / name for name in SOURCES]
    paths = paths[: args.images or None]
    found = {
        precision: detected(precision, args.device, paths)
        for precision in ("fp32", *args.precisions)
    }
    scores = np.concatenate(
        [r.obj_probs for r in found["fp32"].values() if r.obj_probs is not None]
    )
    print(
        "scores in fp32, percentiles 0, 10, ... 100:",
        np.percentile(scores, range(0, 101, 10)).round(2),
    )
    rows = []
    for precision in args.precisions:
        for preset in PRESETS:
            rows.append([precision, preset.name, *compared(preset.name, found, precision)])
    columns = (
        "precision",
        "preset",
        "boxes",
        "matched",
        "",
        "mean cosine",
        "",
        "least",
        "same class",
    )
    print_table(columns, rows)


def detected(precision: str, device: str, paths: list[Path]) -> dict[tuple[str, str], RegionBatch]:
    """Find the regions of every photograph under both presets."""
    res5, _, backbone = precision.partition("/")
    network = build_vg(random_vg_state(), res5, torch.device(device), backbone or "fp32")
    found = {}
    for preset in PRESETS:
        options = DetectorSection(name=preset.name)
        find, resize = RegionFinder(network, preset.rules(options), options), preset.resize(options)
        for path in paths:
            image = as_bgr(path)
            hw = np.array([image.shape[:2]], np.int32)
            found[preset.name, path.name] = find([resize(image)], hw)
    return found


def compared(
    preset: str, found: dict[str, dict[tuple[str, str], RegionBatch]], precision: str
) -> list[object]:
    """Give the figures of one preset."""
    boxes, cosines, same = 0, [], []
    for key, a in found["fp32"].items():
        if key[0] == preset:
            b = found[precision][key]
            pairs = match(a.boxes, b.boxes, a.obj_ids, b.obj_ids, IOU)
            boxes += max(len(a.boxes), len(b.boxes))
            x, y = (
                torch.tensor(f).double() for f in (a.visual_feats[pairs.a], b.visual_feats[pairs.b])
            )
            cosines.append(torch.cosine_similarity(x, y).numpy())
            assert a.obj_ids is not None
            assert b.obj_ids is not None
            same.append(a.obj_ids[pairs.a] == b.obj_ids[pairs.b])
    cosine, classes = np.concatenate(cosines), np.concatenate(same)
    matched, mean = len(cosine) / boxes, float(cosine.mean())
    return [
        boxes,
        f"{matched:.1%}",
        verdict(matched, MATCHED, at_least=True),
        f"{mean:.6f}",
        verdict(mean, COSINE, at_least=True),
        f"{cosine.min():.6f}",
        f"{classes.mean():.1%}",
    ]


if __name__ == "__main__":
    main()
