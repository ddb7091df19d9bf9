"""Networks of maskrcnn-benchmark beside its own code and MMF's: see ``tests.benchmarks.parity``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import vlray
from tests.benchmarks.calibrated import calibrate
from tests.benchmarks.report import print_table
from tests.benchmarks.vmb_peer import REPLACED, Peer, Regions
from vlray.detect.vmb.config import BLOCKS

COLUMNS = (
    "network",
    "features",
    "images",
    "regions",
    "same regions",  # images with the same number of boxes, each within 0.01 px, and the same ids
    "same order",
    "max box, px",
    "max prob",
    "max features",  # |a - b| / |b|
    "theirs, s",
    "ours, s",
)
SPREADS = {
    **{"rpn.head.cls_logits": 2.0, "rpn.head.bbox_pred": 0.3, "fpn_layer1": 1.0},
    **{f"fpn_layer{level}": 1.0 for level in (2, 3, 4)},
    **{"fc6": 1.0, "fc7": 1.0, "predictor.cls_score": 4.0},
}


def compare(code: Path, paths: list[Path], folder: Path, *, narrow: bool) -> None:
    """Run both on each photograph, and print the table."""
    rows = []
    for name in ("X-101",) if narrow else ("X-101", "X-152"):
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(configuration(name, narrow=narrow)))
        torch.manual_seed(0)
        peer = Peer(code, config, {"R-152-FPN": BLOCKS["R-152-FPN"]})
        weights = write_weights(peer, paths[0], folder / f"{name}.pth")
        rows += [_row(name, f, peer, paths, config, weights) for f in ("fc6", "fc7")[: 1 + narrow]]
    print_table(COLUMNS, rows)
    print(f"replaced in the peer: {REPLACED}")


def configuration(name: str, *, narrow: bool) -> dict[str, Any]:
    """Return the sizes of Pythia's published networks, or of one with few channels."""
    groups, width = {"X-101": (64, 4), "X-152": (32, 8)}[name]
    resnets: dict[str, Any] = {"STRIDE_IN_1X1": False, "NUM_GROUPS": groups}
    resnets |= {"WIDTH_PER_GROUP": width}
    head: dict[str, Any] = {"MLP_HEAD_DIM": 2048, "NUM_CLASSES": 1601}
    channels = 512
    if narrow:
        resnets |= {"NUM_GROUPS": 4, "WIDTH_PER_GROUP": 2}
        resnets |= {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16}
        head |= {"MLP_HEAD_DIM": 64, "NUM_CLASSES": 101}
        channels = 16
    return {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "BACKBONE": {
                "CONV_BODY": {"X-101": "R-101-FPN", "X-152": "R-152-FPN"}[name],
                "OUT_CHANNELS": channels,
            },
            "RESNETS": resnets,
            "RPN": {
                "USE_FPN": True,
                "ANCHOR_STRIDE": "(4, 8, 16, 32, 64)",
                "PRE_NMS_TOP_N_TRAIN": 2000,
                "PRE_NMS_TOP_N_TEST": 1000,
                "POST_NMS_TOP_N_TEST": 1000,
                "FPN_POST_NMS_TOP_N_TEST": 1000,
            },
            "ROI_HEADS": {"USE_FPN": True},
            "ROI_BOX_HEAD": {
                "POOLER_SCALES": "(0.25, 0.125, 0.0625, 0.03125)",
                "FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor",
                "POOLER_RESOLUTION": 7,
                "POOLER_SAMPLING_RATIO": 2,
                "RETURN_FC_FEATS": True,
                "PREDICTOR": "FPNPredictor",
                "ATTR": False,
                **head,
            },
        },
        "DATASETS": {"TRAIN": '("visual_genome_train",)', "TEST": '("vqa_test",)'},
        "DATALOADER": {"NUM_WORKERS": 8},
    }


def write_weights(peer: Peer, path: Path, file: Path) -> Path:
    """Calibrate random weights on a photograph, and write them as maskrcnn-benchmark does."""
    torch.manual_seed(0)
    calibrate(peer.model, lambda: peer(path), SPREADS)
    state = {f"module.{name}": value for name, value in peer.model.state_dict().items()}
    torch.save({"model": state, "optimizer": {}, "iteration": 1}, file)
    return file


def find(path: Path, config: Path, weights: Path, **options: Any) -> Regions:
    """Detect with vlray, in this process."""
    with Image.open(path) as image:
        batch = vlray.find_regions(
            image.convert("RGB"), str(config), weights=str(weights), device="cpu", **options
        )
    assert batch.obj_ids is not None
    assert batch.obj_probs is not None
    return {
        "boxes": batch.boxes,
        "obj_ids": batch.obj_ids,
        "obj_probs": batch.obj_probs,
        "visual_feats": batch.visual_feats,
    }


def _row(
    name: str, features: str, peer: Peer, paths: list[Path], config: Path, weights: Path
) -> list[object]:
    worst = dict.fromkeys(("boxes", "obj_probs", "visual_feats"), 0.0)
    regions = same = in_order = 0
    seconds = [0.0, 0.0]
    peer.load(torch.load(weights, weights_only=True)["model"])
    find(paths[0], config, weights, features=features)  # loads the network
    for path in paths:
        began = time.perf_counter()
        theirs = peer(path, features)
        between = time.perf_counter()
        ours = find(path, config, weights, features=features)
        seconds[0] += between - began
        seconds[1] += time.perf_counter() - between
        regions += len(theirs["boxes"])
        outcome = compare_regions(path.name, ours, theirs, worst)
        same += outcome[0]
        in_order += outcome[1]
    means = (value / len(paths) for value in seconds)
    differences = (f"{value:.1e}" for value in worst.values())
    counts = f"{same}/{len(paths)}", f"{in_order}/{len(paths)}"
    return [name, features, len(paths), regions, *counts, *differences, *means]


def compare_regions(
    name: str, ours: Regions, theirs: Regions, worst: dict[str, float]
) -> tuple[bool, bool]:
    """Compare with the nearest region of the peer; add the largest differences to ``worst``.

    Returns:
        Whether the regions are the same, and whether their order is, too. Confidences that differ
        by less than rounding may change places.
    """
    if len(ours["boxes"]) != len(theirs["boxes"]):
        print(f"{name}: {len(ours['boxes'])} regions, theirs {len(theirs['boxes'])}")
        return False, False
    distances = np.abs(ours["boxes"][:, None] - theirs["boxes"][None]).max(axis=2)
    # Boxes that were clipped to the same one are told apart by their probabilities.
    gaps = np.abs(ours["obj_probs"][:, None] - theirs["obj_probs"][None])
    nearest = (distances + gaps).argmin(axis=1)
    theirs = {field: values[nearest] for field, values in theirs.items()}
    same = distances[np.arange(len(nearest)), nearest] < 0.01
    same &= ours["obj_ids"] == theirs["obj_ids"]
    if not same.all():
        print(f"{name}: rows {np.flatnonzero(~same).tolist()} of {len(same)} differ")
    for field in worst:
        difference = np.abs(ours[field] - theirs[field])[same]
        if field == "visual_feats":
            norms = np.linalg.norm(theirs[field][same], axis=1)
            difference = np.linalg.norm(difference, axis=1) / norms
        worst[field] = max(worst[field], float(difference.max(initial=0)))
    is_permutation = len(set(nearest.tolist())) == len(nearest)
    is_same = bool(same.all()) and is_permutation
    return is_same, is_same and bool((np.diff(nearest) > 0).all())
