"""grid-feats-vqa's networks beside its own code: see ``tests.benchmarks.parity``."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
import yaml
from detectron2.modeling import build_model

from tests.benchmarks.calibrated import calibrate
from tests.benchmarks.grid_peer import REPLACED
from tests.benchmarks.report import print_table
from vlray.config.detector import DetectorSection
from vlray.detect.d2.attributes import attach_attributes
from vlray.detect.d2.box_head import feature_dim_of
from vlray.detect.d2.config import load_config
from vlray.detect.d2.detector import Detectron
from vlray.detect.selection.rules import select_one
from vlray.images.decode import as_bgr

COLUMNS = (
    "network",
    "features",
    "images",
    "cells, regions",
    "same",  # images with an equal shape of the map, or the same regions in the same order
    "max box, px",
    "max prob",
    "max attr. prob",
    "max features",  # |a - b| / |b|
    "theirs, s",
    "ours, s",
)
NETWORKS = {
    "R-50-grid": ("grid", "regions"),
    "R-50-updn": ("grid", "regions"),
    "X-101-grid": ("grid",),
    "X-152-grid": ("grid",),
    "X-152-challenge": ("grid",),
}
SPREADS = {
    **{"objectness_logits": 2.0, "anchor_deltas": 0.3, "fc1": 1.0, "fc2": 1.0},
    # Larger offsets on the rough maps of a random network amplify rounding from layer to layer.
    **{"cls_score": 4.0, "bbox_pred": 0.3, "conv2_offset": 0.2},
    **{"attribute_predictor.fc.0": 1.0, "attr_score": 3.0},
}
SMALL: dict[str, Any] = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 8}


def compare(code: Path, paths: list[Path], folder: Path, *, narrow: bool) -> None:
    """Run both on each photograph with each configuration, and print the table."""
    photographs = folder / "photographs.txt"
    photographs.write_text("\n".join(map(str, paths)))
    rows = []
    for name, modes in NETWORKS.items():
        config = code / "grid-feats-vqa" / "configs" / f"{name}.yaml"
        if narrow:
            config = _narrowed(config, folder / f"{name}.yaml")
        weights = write_weights(config, paths[0], folder / f"{name}.pth")
        for mode in modes:
            out = folder / "theirs.pkl"
            command = [sys.executable, "-m", "tests.benchmarks.grid_peer", str(code), str(config)]
            command += [str(weights), str(photographs), str(out), mode]
            subprocess.run(command, check=True)
            theirs = pickle.loads(out.read_bytes())
            rows.append([name, mode, *_row(mode, config, weights, paths, theirs)])
            print(*rows[-1], flush=True)  # the real sizes take a while
    print_table(COLUMNS, rows)
    print(f"replaced in the peer: {REPLACED}")


def write_weights(config: Path, path: Path, file: Path) -> Path:
    """Calibrate random weights on a photograph, and write them as Detectron2 does."""
    options = DetectorSection(name=str(config), device="cpu")
    cfg = load_config(options)
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(cfg)
    attach_attributes(model, cfg, feature_dim_of(model, "pooled"))
    model.eval()
    image = Detectron.resize(options)(as_bgr(path))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)

    def run() -> None:
        heads = model.roi_heads
        (instances,) = model.inference([{"image": pixels}], do_postprocess=False)
        dim = heads.box_predictor.cls_score.in_features
        vectors = torch.rand(50, dim, generator=torch.Generator().manual_seed(0))
        heads.attribute_predictor(vectors, torch.arange(50) % heads.num_classes)
        del instances

    calibrate(model, run, SPREADS)
    torch.save({"model": model.state_dict()}, file)
    return file


def _narrowed(config: Path, file: Path) -> Path:
    values = {"_BASE_": str(config), "MODEL": {"RESNETS": dict(SMALL)}}
    if config.stem.startswith("X"):
        values["MODEL"]["RESNETS"]["NUM_GROUPS"] = 2
    file.write_text(yaml.safe_dump(values))
    return file


def _row(
    mode: str, config: Path, weights: Path, paths: list[Path], theirs: dict[str, Any]
) -> list[object]:
    options = DetectorSection(
        name=str(config),
        weights=str(weights),
        device="cpu",
        features="grid" if mode == "grid" else "pooled",
        nms_thresh=0.5,
    )
    detector, resize = Detectron(options), Detectron.resize(options)
    worst = dict.fromkeys(("boxes", "obj_probs", "attr_probs", "visual_feats"), 0.0)
    total = same = 0
    seconds = 0.0
    for path in paths:
        image = as_bgr(path)
        hw = np.array([image.shape[:2]], np.int32)
        began = time.perf_counter()
        pixels = [resize(image)]
        found = detector.grid(pixels, hw) if mode == "grid" else detector(pixels, hw)
        seconds += time.perf_counter() - began
        peer = theirs[str(path)]
        total += len(found.boxes)
        if mode == "grid":
            cells = peer["map"][0].reshape(peer["map"].shape[1], -1).T
            expected = {"visual_feats": cells}
            is_same = cells.shape == found.visual_feats.shape
        else:
            expected = _selected(peer, hw[0].tolist(), options)
            is_same = len(expected["boxes"]) == len(found.boxes) and all(
                np.array_equal(getattr(found, name), expected[name])
                for name in ("obj_ids", "attr_ids")
            )
        same += is_same
        for name in worst.keys() & expected.keys() if is_same else ():
            a, b = getattr(found, name), expected[name]
            difference = np.abs(a - b)
            if name == "visual_feats":
                difference = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
            worst[name] = max(worst[name], float(difference.max()))
    per_image = [float(sum(one["seconds"] for one in theirs.values())) / len(paths)]
    differences = (f"{value:.1e}" for value in worst.values())
    return [
        len(paths), total, f"{same}/{len(paths)}", *differences, *per_image, seconds / len(paths)
    ]  # fmt: skip


def _selected(peer: dict[str, Any], hw: list[int], options: DetectorSection) -> dict[str, Any]:
    """Select from the peer's proposals by vlray's rule."""
    resized = peer["hw"].tolist()
    limit, scale = (np.array([one[1], one[0]] * 2, np.float32) for one in (resized, hw))
    boxes = np.clip(np.clip(peer["boxes"], 0, limit) * (scale / limit), 0, scale)
    boxes = boxes.astype(np.float32)
    obj_ids, scores = peer["probs"].argmax(1), peer["probs"].max(1)
    rows = select_one(boxes, obj_ids, scores, options)
    return {
        "boxes": boxes[rows],
        "obj_ids": obj_ids[rows],
        "obj_probs": scores[rows],
        **{name: peer[name][rows] for name in ("visual_feats", "attr_ids", "attr_probs")},
    }
