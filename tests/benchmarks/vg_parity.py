"""Whether ``vg-pbua`` finds what the peers' own code finds, with the same random weights.

    python -m tests.benchmarks.vg_parity --hf FOLDER --pbua FOLDER [--photographs FOLDER]

No code of the peers is part of vlray; give your own copies (both are Apache-2.0):

    git clone https://github.com/huggingface/transformers-research-projects   --hf .../lxmert
    git clone https://github.com/airsplay/py-bottom-up-attention              --pbua ...

Hugging Face's network gets the pixels that vlray resized, for its own resizing has known faults
(local files with red and blue exchanged, no antialiasing). py-bottom-up-attention gets the
photographs, and resizes them itself. Each runs for 36 boxes and for 150, which the first threshold
of NMS does not leave everywhere. In fp32.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.benchmarks.report import print_header, print_table
from tests.benchmarks.vg_peers import FIELDS, NMS_THRESH, REPLACED, Found
from tests.detect.vg_flavours import write_airsplay, write_hf
from tests.detect.vg_weights import random_vg_state
from vlray.config.detector import DetectorSection
from vlray.detect.visual_genome.checkpoint import load_vg
from vlray.detect.visual_genome.detector import VgPbua
from vlray.detect.visual_genome.model import build_vg
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.images.decode import as_bgr

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "fixtures" / "butd"
COUNTS = (36, 150)
COLUMNS = (
    "peer",
    "boxes",
    "images",
    "second NMS",  # needed by
    "same rows",  # same number of boxes, each within 0.01 px, same classes and attributes
    "max box, px",
    "max prob",
    "max attr. prob",
    "max features",  # |a - b| / |b|
)


def main() -> None:
    """Read the options, run vlray and the peers, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.vg_parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hf", type=Path, help="folder with modeling_frcnn.py")
    parser.add_argument("--pbua", type=Path, help="folder with detectron2/, configs/ and demo/")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    args = parser.parse_args()
    if not (args.hf or args.pbua):
        parser.error("give --hf, --pbua or both")

    print_header("Parity with the peers' code", sys.argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = random_vg_state(args.seed)
        weights = {
            "hf": write_hf(state, folder / "pytorch_model.bin"),
            "pbua": write_airsplay(state, folder / "faster_rcnn.pkl", author="airsplay"),
        }
        del state
        paths = sorted(args.photographs.glob("*.jpg"))[: args.images or None]
        images = [decoded(path) for path in paths]
        (folder / "images.pkl").write_bytes(pickle.dumps(images))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", name)
            ours = run_ours(weights["hf"], images)
        for kind in ("hf", "pbua"):
            if place := getattr(args, kind):
                theirs = run_peer(kind, place, weights[kind], folder)
                rows = [compared(kind, count, images, ours, theirs) for count in COUNTS]
                print_table(COLUMNS, rows)
                print(f"replaced in {kind}: " + "; ".join(REPLACED[kind]), end="\n\n", flush=True)


def decoded(path: Path) -> dict[str, Any]:
    """Give a photograph as it is and as ``vg-pbua`` resizes it, BGR."""
    raw = as_bgr(path)
    resized = VgPbua.resize(DetectorSection(name="vg-pbua"))(raw)
    return {"name": path.name, "path": str(path), "raw": raw, "resized": resized}


def run_ours(weights: Path, images: list[dict[str, Any]]) -> dict[tuple[str, int], Found]:
    """Detect with vlray, pooling each image once; ``(name, 0)`` is what the first NMS leaves."""
    options = DetectorSection(name="vg-pbua", weights=str(weights), device="cpu")
    network: Any = build_vg(load_vg(options.weights).tensors, "fp32", torch.device("cpu"))
    network.c4, network.pool = remembered(network.c4), remembered(network.pool)
    found = {}
    for image in images:
        hw = np.array([image["raw"].shape[:2]], np.int32)
        for count in (0, *COUNTS):
            limits = {"min_boxes": count or 300, "max_boxes": count or 300}
            thresholds = {"nms_thresh": 0.0 if count else NMS_THRESH[0]}
            limited = options.model_copy(update=limits | thresholds)
            regions = RegionFinder(network, VgPbua.rules(limited), limited)([image["resized"]], hw)
            found[image["name"], count] = {name: getattr(regions, name) for name in FIELDS}
    return found


def remembered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep the last result, for the same tensors again."""
    last: list[Any] = [(), None]

    def call(*tensors: Tensor) -> Tensor:
        same = len(last[0]) == len(tensors) and all(map(torch.equal, last[0], tensors))
        if not same:
            last[:] = tensors, function(*tensors)
        return last[1]

    return call


def run_peer(
    kind: str, place: Path, weights: Path, folder: Path
) -> dict[tuple[str, int], Found | None]:
    """Run a peer's code in a process of its own."""
    out = folder / f"{kind}.pkl"
    command = [sys.executable, "-m", "tests.benchmarks.vg_peers", kind, str(place), str(weights)]
    command += [str(folder / "images.pkl"), str(out), *map(str, COUNTS)]
    subprocess.run(command, check=True)
    found: dict[tuple[str, int], Found | None] = pickle.loads(out.read_bytes())
    return found


def compared(
    kind: str,
    count: int,
    images: list[dict[str, Any]],
    ours: dict[tuple[str, int], Found],
    theirs: dict[tuple[str, int], Found | None],
) -> tuple[object, ...]:
    """Compare row by row, in order; differences are over the images with as many rows."""
    same = second = 0
    largest = dict.fromkeys(("boxes", "obj_probs", "attr_probs", "visual_feats"), 0.0)
    for image in images:
        name = image["name"]
        a, b = ours[name, count], theirs[name, count]
        second += len(ours[name, 0]["boxes"]) < count
        if empty := int((a["boxes"][:, 2:] <= a["boxes"][:, :2]).any(axis=1).sum()):
            print(f"{kind} {name}: {empty} of {len(a['boxes'])} boxes have no area")
        if b is None:  # theirs gives up, ours keeps the last threshold's
            same += len(a["boxes"]) < count
            continue
        if len(a["boxes"]) != len(b["boxes"]):
            print(f"{kind} {name}: {len(a['boxes'])} boxes, theirs {len(b['boxes'])}")
            continue
        moved = np.abs(a["boxes"] - b["boxes"]).max(axis=1)
        equal = (moved < 0.01) & (a["obj_ids"] == b["obj_ids"]) & (a["attr_ids"] == b["attr_ids"])
        if not equal.all():
            print(f"{kind} {name}: rows {np.flatnonzero(~equal).tolist()} differ of {count}")
        same += bool(equal.all())
        for field in largest:
            difference = np.abs(a[field] - b[field])
            if field == "visual_feats":
                norms = np.linalg.norm(b[field], axis=1)
                difference = np.linalg.norm(a[field] - b[field], axis=1) / norms
            largest[field] = max(largest[field], float(difference.max()))
    values = (f"{value:.1e}" for value in largest.values())
    return kind, count, len(images), second, f"{same}/{len(images)}", *values


if __name__ == "__main__":
    main()
