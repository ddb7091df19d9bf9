"""Sizes of a network of VinVL's family, read from a checkpoint's own shapes. Does not import torch.

The names of tensors are those of microsoft/scene_graph_benchmark's ``AttrRCNN`` with a C4 backbone;
rows of classes and attributes begin with the background and with "no attribute".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vlray.detect.visual_genome.shapes import RATIOS, Shapes
from vlray.settings.wording import counted

ANCHOR_SCALES = (2, 4, 8, 16, 32)  # 32 to 512 pixels
ANCHORS = len(ANCHOR_SCALES) * len(RATIOS)
PIXEL_MEAN = (103.530, 116.280, 123.675)  # BGR

STAGES = {
    "backbone.body.layer1": "backbone.res2",
    "backbone.body.layer2": "backbone.res3",
    "backbone.body.layer3": "backbone.res4",
    "roi_heads.box.feature_extractor.head.layer4": "roi_heads.res5",
}
"""Detectron2's name of each stage, keyed by its name in a checkpoint."""

_PARTS = {
    "backbone.body.stem.": "backbone.stem.",
    "rpn.head.conv.": "proposal_generator.rpn_head.conv.",
    "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
    "roi_heads.box.predictor.": "roi_heads.box_predictor.",
    "attribute.predictor.": "roi_heads.box_predictor.",
}
_ATTRIBUTES = "attribute.predictor"
_NORM = ("weight", "bias", "running_mean", "running_var")
_LISTED = 8  # maximum number of tensor names in an error message


@dataclass(frozen=True)
class Layout:
    """Sizes of a network; VinVL's own are in parentheses.

    Attributes:
        blocks: Number of blocks of each stage (3, 8, 36, 3).
        stem: Channels of the stem (64).
        width: Channels of the first stage's 3x3 convolutions (256); doubled in each later stage.
        groups: Groups of the 3x3 convolutions (32).
        channels: Output channels of the first stage (256); doubled in each later stage.
        objects: Object classes, without the background (1,594).
        attributes: Attributes (524); 0 if there is no attribute head.
        embedding: Length of a class's embedding in the attribute head (256).
        hidden: Length of the attribute head's hidden layer (512).
    """

    blocks: tuple[int, int, int, int]
    stem: int
    width: int
    groups: int
    channels: int
    objects: int
    attributes: int
    embedding: int = 256
    hidden: int = 512

    @property
    def feature_dim(self) -> int:
        """Length of a region's feature vector."""
        return 8 * self.channels

    @property
    def c4_dim(self) -> int:
        """Channels of the map of stride 16."""
        return 4 * self.channels


def layout_of(shapes: Mapping[str, tuple[int, ...]], source: str) -> Layout:
    """Read a network's sizes from the shapes of its tensors.

    Raises:
        ValueError: The tensors that determine the sizes are not there.
    """

    def rows(name: str) -> int:
        return shapes[name][0]

    try:
        width, in_group = shapes["backbone.body.layer1.0.conv2.weight"][:2]
        blocks = [_count(shapes, stage) for stage in STAGES]
        head = f"{_ATTRIBUTES}.attr_score.weight" in shapes
        return Layout(
            blocks=(blocks[0], blocks[1], blocks[2], blocks[3]),
            stem=rows("backbone.body.stem.conv1.weight"),
            width=width,
            groups=width // in_group,
            channels=rows("backbone.body.layer1.0.conv3.weight"),
            objects=rows("roi_heads.box.predictor.cls_score.weight") - 1,
            attributes=rows(f"{_ATTRIBUTES}.attr_score.weight") - 1 if head else 0,
            embedding=shapes[f"{_ATTRIBUTES}.cls_embedding.weight"][1] if head else 256,
            hidden=rows(f"{_ATTRIBUTES}.fc_attr.weight") if head else 512,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        names = sorted(shapes)[:_LISTED]
        raise ValueError(
            f"{source} does not contain VinVL's detector: there is no usable tensor {error}; its "
            f"tensors begin with {', '.join(names)}. Use vinvl_vg_x152c4.pth, exactly as published"
        ) from error


def published_shapes(layout: Layout) -> Shapes:
    """Return the shapes of the tensors that a checkpoint needs, keyed by their published names."""
    shapes: Shapes = {}
    for name, bn, shape in convolutions(layout):
        shapes[f"{name}.weight"] = shape
        shapes |= {f"{bn}.{part}": shape[:1] for part in _NORM}
    return shapes | _head_shapes(layout)


def canonical_shapes(layout: Layout) -> Shapes:
    """Return the shapes of the converted tensors: Detectron2's names, norms folded."""
    shapes: Shapes = {}
    for name, _, shape in convolutions(layout):
        shapes |= {
            f"{canonical_name(name)}.weight": shape,
            f"{canonical_name(name)}.bias": shape[:1],
        }
    return shapes | {canonical_name(name): s for name, s in _head_shapes(layout).items()}


def convolutions(layout: Layout) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield the published name of each convolution, that of its norm, and the weight's shape."""
    yield "backbone.body.stem.conv1", "backbone.body.stem.bn1", (layout.stem, 3, 7, 7)
    channels = layout.stem
    for index, (stage, blocks) in enumerate(zip(STAGES, layout.blocks, strict=True)):
        width, out = layout.width << index, layout.channels << index
        for block in range(blocks):
            name = f"{stage}.{block}"
            if block == 0:
                yield f"{name}.downsample.0", f"{name}.downsample.1", (out, channels, 1, 1)
            yield f"{name}.conv1", f"{name}.bn1", (width, channels, 1, 1)
            yield f"{name}.conv2", f"{name}.bn2", (width, width // layout.groups, 3, 3)
            yield f"{name}.conv3", f"{name}.bn3", (out, width, 1, 1)
            channels = out


def canonical_name(name: str) -> str:
    """Return Detectron2's name of a published tensor or module."""
    for prefixes in (STAGES, _PARTS):
        for old, new in prefixes.items():
            if name.startswith(old):
                return (new + name[len(old) :]).replace("downsample.0", "shortcut")
    raise KeyError(name)


def check_names(
    tensors: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Check the tensors' names and shapes against the expected ones.

    Raises:
        ValueError: They differ; the message lists the differences.
    """
    problems = {
        "missing from the file": expected.keys() - tensors.keys(),
        "not part of the network": tensors.keys() - expected.keys(),
        "wrong shape": [
            f"{name} {tensors[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in tensors and tensors[name] != shape
        ],
    }
    if any(problems.values()):
        raise ValueError(
            f"{source} does not contain VinVL's detector:\n  "
            + "\n  ".join(_listed(problem, names) for problem, names in problems.items() if names)
            + "\nUse vinvl_vg_x152c4.pth, exactly as published."
        )


def _head_shapes(layout: Layout) -> Shapes:
    c4, dim, objects = layout.c4_dim, layout.feature_dim, layout.objects + 1
    shapes = _layer("rpn.head.conv", c4, c4, 3, 3)
    shapes |= _layer("rpn.head.cls_logits", ANCHORS, c4, 1, 1)
    shapes |= _layer("rpn.head.bbox_pred", 4 * ANCHORS, c4, 1, 1)
    shapes |= _layer("roi_heads.box.predictor.cls_score", objects, dim)
    if layout.attributes:
        shapes[f"{_ATTRIBUTES}.cls_embedding.weight"] = (objects, layout.embedding)
        shapes |= _layer(f"{_ATTRIBUTES}.fc_attr", layout.hidden, dim + layout.embedding)
        shapes |= _layer(f"{_ATTRIBUTES}.attr_score", layout.attributes + 1, layout.hidden)
    return shapes


def _layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _count(names: Iterable[str], stage: str) -> int:
    """Return the number of a stage's blocks."""
    pattern = re.compile(re.escape(stage) + r"\.(\d+)\.conv1\.weight")
    return max(int(match[1]) for match in map(pattern.fullmatch, names) if match) + 1


def _listed(problem: str, names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{problem} ({counted(len(names), 'tensor')}): {', '.join(names[:_LISTED])}{more}"
