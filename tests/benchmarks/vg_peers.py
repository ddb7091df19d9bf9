"""Runs the peers' own code of the Visual Genome detector, out of the user's copies of it.

    python -m tests.benchmarks.vg_peers hf FOLDER WEIGHTS IMAGES OUT BOXES...
    python -m tests.benchmarks.vg_peers pbua FOLDER WEIGHTS IMAGES OUT BOXES...

``vg_parity`` starts it: in a process of its own, because the peers' packages have the names of
others (``utils``, ``detectron2``). Nothing of vlray is imported here. What the peers' code lacks
with today's libraries is put in its place at import, and listed in ``REPLACED``.
"""

from __future__ import annotations

import ast
import collections
import collections.abc
import contextlib
import io
import json
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

REPLACED = {
    "hf": (
        "nothing that runs: empty modules where wget and transformers are not installed",
        "its config.yaml (on the hub) by the same values, given here",
    ),
    "pbua": (
        "detectron2._C by an empty module: no compiled operation is reached (RoIPool and NMS are "
        "torchvision's in its code too)",
        "imagesize by an empty module, collections.Mapping and PIL.Image.LINEAR by their new names",
        "Tensor.cuda() by nothing, as the script runs on a CPU",
        "boxes without area are kept: its postprocessing drops them and not their features, upon "
        "which the notebook stops and the script's rows no longer fit each other",
        "the notebook's NMS by the script's (max-NMS), as its author recommends (its issue 6)",
    ),
}
MEAN = (102.9801, 115.9465, 122.7717)
NMS_THRESH = (0.5, 0.6, 0.7, 0.8, 0.9)
# What the values of unc-nlp/frcnn-vg-finetuned's config.yaml are; anchors that training alone
# needs, and its sampling, are Detectron2's defaults.
HF_CONFIG: dict[str, Any] = {
    "MODEL": {"DEVICE": "cpu", "MAX_POOL": True, "PIXEL_MEAN": [*MEAN], "PIXEL_STD": [1.0] * 3},
    "INPUT": {"FORMAT": "BGR", "MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333},
    "SIZE_DIVISIBILITY": 0,
    "PAD_VALUE": 0,
    "MIN_DETECTIONS": 36,
    "MAX_DETECTIONS": 36,
    "BACKBONE": {"FREEZE_AT": 2},
    "RESNETS": {
        "DEPTH": 101,
        "NORM": "BN",
        "NUM_GROUPS": 1,
        "OUT_FEATURES": ["res4"],
        "RES2_OUT_CHANNELS": 256,
        "RES5_DILATION": 1,
        "STEM_OUT_CHANNELS": 64,
        "STRIDE_IN_1X1": True,
        "WIDTH_PER_GROUP": 64,
    },
    "ANCHOR_GENERATOR": {
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
        "OFFSET": 0.0,
        "SIZES": [[64, 128, 256, 512]],
    },
    "PROPOSAL_GENERATOR": {"HIDDEN_CHANNELS": 512, "MIN_SIZE": 0},
    "RPN": {
        "BATCH_SIZE_PER_IMAGE": 256,
        "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
        "BOUNDARY_THRESH": -1,
        "IN_FEATURES": ["res4"],
        "IOU_LABELS": [0, -1, 1],
        "IOU_THRESHOLDS": [0.3, 0.7],
        "LOSS_WEIGHT": 1.0,
        "NMS_THRESH": 0.7,
        "POSITIVE_FRACTION": 0.5,
        "POST_NMS_TOPK_TEST": 300,
        "POST_NMS_TOPK_TRAIN": 2000,
        "PRE_NMS_TOPK_TEST": 6000,
        "PRE_NMS_TOPK_TRAIN": 12000,
        "SMOOTH_L1_BETA": 0.0,
    },
    "ROI_HEADS": {
        "IN_FEATURES": ["res4"],
        "IOU_LABELS": [0, 1],
        "IOU_THRESHOLDS": [0.5],
        "NMS_THRESH_TEST": [*NMS_THRESH],
        "NUM_CLASSES": 1600,
        "POSITIVE_FRACTION": 0.25,
        "PROPOSAL_APPEND_GT": True,
        "SCORE_THRESH_TEST": 0.2,
    },
    "ROI_BOX_HEAD": {
        "ATTR": True,
        "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
        "CLS_AGNOSTIC_BBOX_REG": False,
        "NUM_ATTRS": 400,
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "RES5HALVE": False,
        "SMOOTH_L1_BETA": 0.0,
    },
}
FIELDS = ("boxes", "obj_ids", "obj_probs", "attr_ids", "attr_probs", "visual_feats")

Found = dict[str, np.ndarray]
Detect = Callable[[dict[str, Any], int], Found | None]


def main() -> None:
    """Run one peer on every image for every number of boxes; a row is None where it finds none."""
    kind, folder, weights, images, out, *counts = sys.argv[1:]
    warnings.simplefilter("ignore")  # of the peers' code and today's libraries
    detect = {"hf": hf, "pbua": pbua}[kind](Path(folder), weights)
    found: dict[tuple[str, int], Found | None] = {}
    with Path(images).open("rb") as file:
        for image in pickle.load(file):
            for count in map(int, counts):
                found[image["name"], count] = detect(image, count)
    with Path(out).open("wb") as file:
        pickle.dump(found, file)


def hf(folder: Path, weights: str) -> Detect:
    """Load modeling_frcnn.py of huggingface/transformers-research-projects, lxmert/."""
    _, model = hf_network(folder, weights)
    remember(model.roi_heads)

    @torch.no_grad()
    def detect(image: dict[str, Any], count: int) -> Found | None:
        pixels = torch.from_numpy(image["resized"].astype(np.float32)) - torch.tensor(MEAN)
        sizes = torch.tensor([pixels.shape[:2]])
        scales = torch.true_divide(torch.tensor([image["raw"].shape[:2]]), sizes)
        model.roi_outputs.min_detections = model.roi_outputs.max_detections = count
        try:
            found = model(
                pixels.permute(2, 0, 1)[None],
                sizes,
                scales_yx=scales,
                padding="max_detections",
                max_detections=count,
                return_tensors="pt",
            )
        except UnboundLocalError:  # no threshold leaves enough: in a batch, another image's boxes
            return None
        names = ("boxes", "obj_ids", "obj_probs", "attr_ids", "attr_probs", "roi_features")
        return {field: found[name][0].numpy() for field, name in zip(FIELDS, names, strict=True)}

    return detect


def hf_network(folder: Path, weights: str) -> tuple[Any, Any]:
    """Give its configuration and its network, which takes each key of the weights and no other."""
    for name in ("wget", "transformers", "transformers.image_utils"):
        stand_in(name)
    sys.modules["transformers.image_utils"].__dict__.setdefault(
        "PILImageResampling", PIL.Image.Resampling
    )
    sys.path.insert(0, str(folder))
    import modeling_frcnn
    from utils import Config

    config = Config(HF_CONFIG)
    model = modeling_frcnn.GeneralizedRCNN(config)
    model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return config, model.eval()


def hf_pixels(config: Any, path: str) -> np.ndarray:
    """Give what its Preprocess makes of a file: (h, w, 3), with the mean added again."""
    from processing_image import Preprocess

    pixels, _, _ = Preprocess(config)(path)
    return (pixels[0].permute(1, 2, 0) + torch.tensor(MEAN)).numpy()


def pbua(folder: Path, weights: str) -> Detect:
    """Load the Detectron2 of airsplay/py-bottom-up-attention, and doit() of its notebook."""
    for name in ("Mapping", "Sequence", "Iterable"):
        setattr(collections, name, getattr(collections.abc, name))
    vars(PIL.Image).setdefault("LINEAR", PIL.Image.Resampling.BILINEAR)
    stand_in("imagesize")
    sys.path.insert(0, str(folder))
    detectron2 = __import__("detectron2")
    sys.modules["detectron2._C"] = detectron2._C = types.ModuleType("detectron2._C")
    with contextlib.redirect_stdout(io.StringIO()):
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor

        cfg = get_cfg()
        name = "configs/VG-Detection/faster_rcnn_R_101_C4_attr_caffemaxpool.yaml"
        cfg.merge_from_file(str(folder / name))
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 300
        cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = weights, "cpu"
        predictor = DefaultPredictor(cfg)
    torch.Tensor.cuda = lambda self: self
    remember(predictor.model.roi_heads)
    script = (folder / "demo" / "detectron2_mscoco_proposal_maxnms.py").read_text()
    names: dict[str, Any] = {"predictor": predictor, "np": np, "torch": torch}
    cells = json.loads((folder / "demo" / "demo_feature_extraction_attr.ipynb").read_text())[
        "cells"
    ]
    source = "".join(next(c["source"] for c in cells if "def doit" in "".join(c["source"])))
    exec(
        "from torchvision.ops import nms\nfrom detectron2.structures import Boxes, Instances", names
    )
    exec(imports_and_function(source, "doit"), names)
    exec(
        imports_and_function(script, "fast_rcnn_inference_single_image", with_imports=False), names
    )

    postprocess, nonempty = names["detector_postprocess"], names["Boxes"].nonempty

    def keep_all(*args: Any) -> Any:
        names["Boxes"].nonempty = lambda boxes: torch.ones(len(boxes), dtype=torch.bool)
        try:
            return postprocess(*args)
        finally:
            names["Boxes"].nonempty = nonempty

    names["detector_postprocess"] = keep_all

    def detect(image: dict[str, Any], count: int) -> Found:
        names["NUM_OBJECTS"] = count
        with contextlib.redirect_stdout(io.StringIO()):
            found, visual_feats = names["doit"](image["raw"])
        values = (
            found.pred_boxes.tensor,
            found.pred_classes,
            found.scores,
            found.attr_classes,
            found.attr_scores,
            visual_feats,
        )
        return {field: v.numpy() for field, v in zip(FIELDS, values, strict=True)}

    return detect


def imports_and_function(source: str, name: str, with_imports: bool = True) -> Any:
    """Compile the imports of a program and one function of it, without running the rest."""
    tree = ast.parse(source)
    kinds = (ast.Import, ast.ImportFrom) if with_imports else ()
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, kinds) or (isinstance(node, ast.FunctionDef) and node.name == name)
    ]
    return compile(tree, name, "exec")


def remember(heads: Any) -> None:
    """Pool the same proposals of one image only once, for several numbers of boxes."""
    original, last = heads._shared_roi_transform, {}

    def pooled(features: Any, boxes: Any) -> Tensor:
        tensors = [getattr(value, "tensor", value) for value in boxes]
        if "boxes" not in last or not torch.equal(last["boxes"], tensors[0]):
            last.clear()
            last.update(boxes=tensors[0].clone(), cells=original(features, boxes))
        return last["cells"]

    heads._shared_roi_transform = pooled


def stand_in(name: str) -> None:
    """Put an empty module where one is missing that is imported and not used."""
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)


if __name__ == "__main__":
    main()
