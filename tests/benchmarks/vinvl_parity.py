"""``vinvl`` beside scene_graph_benchmark's own code: see ``tests.benchmarks.parity``."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

import vlray
from tests.benchmarks.report import print_table
from tests.benchmarks.vinvl_peer import REPLACED, Peer, Regions
from tests.detect.vinvl_weights import NARROW, PUBLISHED, random_vinvl_state, write_vinvl

COLUMNS = (
    "filter",
    "images",
    "regions",
    "same rows",  # images with the same number of boxes, each within 0.01 px, and the same ids
    "max box, px",
    "max prob",
    "max attr. prob",
    "max features",  # |a - b| / |b|
    "theirs, s",
    "ours, s",
)


def compare(code: Path, paths: list[Path], folder: Path, *, narrow: bool) -> None:
    """Run both on each photograph with each filter, and print the table."""
    layout = NARROW if narrow else PUBLISHED
    weights = write_vinvl(random_vinvl_state(layout), folder / "vinvl.pth")
    peer = Peer(code, weights, layout)
    rows = []
    for number in (1, 2):
        peer.use_filter(number)
        totals = dict.fromkeys(("regions", "same"), 0)
        worst = dict.fromkeys(("boxes", "obj_probs", "attr_probs", "visual_feats"), 0.0)
        seconds = {"theirs": 0.0, "ours": 0.0}
        for path in paths:
            began = time.perf_counter()
            theirs = peer(path)
            seconds["theirs"] += time.perf_counter() - began
            began = time.perf_counter()
            ours = find(path, weights, number)
            seconds["ours"] += time.perf_counter() - began
            totals["regions"] += len(theirs["boxes"])
            totals["same"] += _is_same(f"filter {number}, {path.name}", ours, theirs, worst)
        values = (f"{value:.1e}" for value in worst.values())
        same = f"{totals['same']}/{len(paths)}"
        means = (value / len(paths) for value in seconds.values())
        rows.append([number, len(paths), totals["regions"], same, *values, *means])
    print_table(COLUMNS, rows)
    print(f"replaced in the peer: {REPLACED}")


def find(path: Path, weights: Path, number: int, **options: object) -> Regions:
    """Detect with vlray, in this process."""
    with Image.open(path) as image:
        batch = vlray.find_regions(
            image.convert("RGB"),
            "vinvl",
            weights=str(weights),
            nms_filter=number,
            device="cpu",
            **options,
        )
    assert batch.attr_ids is not None
    assert batch.attr_probs is not None
    return {
        "boxes": batch.boxes,
        "obj_ids": np.asarray(batch.obj_ids),
        "obj_probs": np.asarray(batch.obj_probs),
        "attr_ids": batch.attr_ids,
        "attr_probs": batch.attr_probs,
        "visual_feats": batch.visual_feats,
    }


def _is_same(name: str, ours: Regions, theirs: Regions, worst: dict[str, float]) -> bool:
    """Compare row by row; add the largest differences to ``worst``."""
    theirs = theirs | {
        "attr_ids": theirs["top_attr_ids"][:, 0],
        "attr_probs": theirs["top_attr_probs"][:, 0],
    }
    if len(ours["boxes"]) != len(theirs["boxes"]):
        print(f"{name}: {len(ours['boxes'])} regions, theirs {len(theirs['boxes'])}")
        return False
    has_attribute = theirs["attr_probs"] > 0  # the id of an attribute below the threshold is noise
    same = np.abs(ours["boxes"] - theirs["boxes"]).max(axis=1) < 0.01
    same &= ours["obj_ids"] == theirs["obj_ids"]
    same &= (ours["attr_ids"] == theirs["attr_ids"]) | ~has_attribute
    if not same.all():
        print(f"{name}: rows {np.flatnonzero(~same).tolist()} of {len(same)} differ")
    for field in worst:
        difference = np.abs(ours[field] - theirs[field])[same]
        if field == "visual_feats":
            norms = np.linalg.norm(theirs[field][same], axis=1)
            difference = np.linalg.norm(difference, axis=1) / norms
        worst[field] = max(worst[field], float(difference.max(initial=0)))
    return bool(same.all())
