"""``vinvl`` beside scene_graph_benchmark's own code: see ``tests.benchmarks.parity``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import vlray
from tests.benchmarks.report import print_table
from tests.benchmarks.vinvl_peer import REPLACED, Peer, Regions
from tests.detect.vinvl_weights import NARROW, PUBLISHED, random_vinvl_state, write_vinvl
from vlray.config.detector import DetectorSection
from vlray.detect.vinvl.checkpoint import load_vinvl
from vlray.detect.vinvl.detector import Vinvl
from vlray.detect.vinvl.model import build_vinvl
from vlray.detect.vinvl.regions import VinvlRegionFinder
from vlray.regions.batch import RegionBatch

COLUMNS = (
    "filter",
    "images",
    "regions",
    "same rows",  # images with the same number of boxes, each within 0.01 px, and the same ids
    "max box, px",
    "max prob",
    "max attr. prob",
    "max features",  # |a - b| / |b|
    "attributes",  # above the threshold, most of an image: their limit is 100
)


def compare(code: Path, paths: list[Path], folder: Path, *, narrow: bool) -> None:
    """Run both on each photograph with each filter, and print the table."""
    layout = NARROW if narrow else PUBLISHED
    weights = write_vinvl(random_vinvl_state(layout), folder / "vinvl.pth")
    peer = Peer(code, weights, layout)
    # Both compute the maps and the vectors of a photograph once for both filters.
    model = peer.model
    model.backbone.forward = remembered(model.backbone.forward)
    extractor = model.roi_heads.box.feature_extractor
    extractor.forward = remembered(extractor.forward)
    network: Any = build_vinvl(load_vinvl(str(weights)).tensors, layout, "fp32")
    network.c4, network.pool = remembered(network.c4), remembered(network.pool)
    results = {number: Result() for number in (1, 2)}
    for path in [*paths, *_odd_shapes(paths[0], folder)]:
        for number, result in results.items():
            peer.use_filter(number)
            theirs = peer(path)
            ours = _find(network, path, number)
            result.add(f"filter {number}, {path.name}", ours, theirs)
        print(path.name, results[1].row(), results[2].row(), flush=True)
    print_table(COLUMNS, [[number, *result.row()] for number, result in results.items()])
    print(f"replaced in the peer: {REPLACED}")


def _odd_shapes(path: Path, folder: Path) -> list[Path]:
    """Write a tall, a flat and a tiny part of a photograph."""
    boxes = {"tall": (200, 0, 290, 400), "flat": (0, 100, 480, 180), "tiny": (150, 150, 181, 174)}
    with Image.open(path) as image:
        for name, box in boxes.items():
            image.crop(box).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in boxes]


@dataclass
class Result:
    """Comparison of both sides over several photographs, with one filter."""

    images: int = 0
    regions: int = 0
    same: int = 0
    attributes: int = 0
    worst: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("boxes", "obj_probs", "attr_probs", "visual_feats"), 0.0
        )
    )

    def add(self, name: str, ours: Regions, theirs: Regions) -> None:
        """Compare one photograph."""
        self.images += 1
        self.regions += len(theirs["boxes"])
        self.attributes = max(self.attributes, int((theirs["top_attr_probs"] > 0).sum()))
        self.same += _is_same(name, ours, theirs, self.worst)

    def row(self) -> list[object]:
        """Return the table's row."""
        values = (f"{value:.1e}" for value in self.worst.values())
        same = f"{self.same}/{self.images}"
        return [self.images, self.regions, same, *values, self.attributes]


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the last two results, for the same arguments again."""
    kept: list[tuple[list[Tensor], Any]] = []

    def call(*arguments: Any) -> Any:
        tensors = [tensor for value in arguments for tensor in _tensors(value)]
        for before, result in kept:
            if len(before) == len(tensors) and all(map(torch.equal, before, tensors)):
                return result
        kept.insert(0, (tensors, function(*arguments)))
        del kept[2:]
        return kept[0][1]

    return call


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value if isinstance(value, Tensor) else value.bbox]


def _find(network: Any, path: Path, number: int) -> Regions:
    options = DetectorSection(name="vinvl", nms_filter=number)
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("RGB"))[:, :, ::-1]
    finder = VinvlRegionFinder(network, Vinvl.rules(options), options)
    hw = np.array([image.shape[:2]], np.int32)
    return _arrays(finder([Vinvl.resize(options)(np.ascontiguousarray(image))], hw))


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
    return _arrays(batch)


def _arrays(batch: RegionBatch) -> Regions:
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
    for name in worst:
        difference = np.abs(ours[name] - theirs[name])[same]
        if name == "visual_feats":
            norms = np.linalg.norm(theirs[name][same], axis=1)
            difference = np.linalg.norm(difference, axis=1) / norms
        worst[name] = max(worst[name], float(difference.max(initial=0)))
    return bool(same.all())
