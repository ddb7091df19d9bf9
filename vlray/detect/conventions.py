"""The sets of conventions that Visual Genome features are made by, each number with its source.

The published features differ in a dozen small rules, and a model that was trained on one set loses
accuracy on another. A preset is one such set; nothing else in ``detect`` knows its numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Conventions:
    """How an image becomes regions. Lengths are pixels of the resized image."""

    min_size: int
    """Length that the shorter side is resized to."""

    max_size: int
    """Limit of the longer side."""

    resize: Literal["opencv", "pillow"]
    """``opencv``: bilinear on float32, one scale for both axes, nothing rounded. ``pillow``:
    bilinear with antialiasing on uint8, sides rounded, a scale for each axis."""

    anchors: Literal["caffe", "centered"]
    """``caffe``: rounded corners around (7.5, 7.5). ``centered``: Detectron2's, around (0, 0)."""

    plus_one: bool
    """Whether a box from 0 to 15 is 16 pixels wide, so that it ends at ``width - 1`` at most."""

    clamp_deltas: bool
    """Whether a box may grow by a factor of 62.5 at most, as in Detectron2."""

    min_side: int
    """Proposals below this many pixels of the original image are dropped, before the best are
    taken. 0: only empty ones are, afterwards."""

    rpn_nms_thresh: float
    """Of two proposals whose IoU is above this, the lower objectness goes."""

    pre_nms_topk: int
    """Proposals before that, best first."""

    post_nms_topk: int
    """Proposals after it, which are pooled."""

    nms: Literal["each class", "best class"]
    """``each class``: a region stays as long as it survives in any of its classes.
    ``best class``: regions suppress each other whatever their classes are."""

    nms_thresh: tuple[float, ...]
    """Tried in turn until ``min_boxes`` regions are left."""

    regressed_boxes: bool
    """Whether boxes are those of the best class, or the proposals as they were pooled."""

    attribute_background: bool
    """Whether "no attribute" takes part in the softmax; without it, scores are higher."""

    def described(self) -> dict[str, Any]:
        """Give the conventions in plain types, for an output's provenance."""
        return asdict(self)


CAFFE = Conventions(
    min_size=600,
    max_size=1000,
    resize="opencv",
    anchors="caffe",
    plus_one=True,
    clamp_deltas=False,
    min_side=16,
    rpn_nms_thresh=0.7,
    pre_nms_topk=6000,
    post_nms_topk=300,
    nms="each class",
    nms_thresh=(0.3,),
    regressed_boxes=False,
    attribute_background=True,
)
"""Bottom-up attention (arXiv:1707.07998) in Caffe, as it was run for LXMERT's published features.

Source: peteanderson80/bottom-up-attention, test.prototxt and generate_tsv.py; airsplay/lxmert,
extract_coco_image.py.
"""

PBUA = Conventions(
    min_size=800,
    max_size=1333,
    resize="pillow",
    anchors="centered",
    plus_one=False,
    clamp_deltas=True,
    min_side=0,
    rpn_nms_thresh=0.7,
    pre_nms_topk=6000,
    post_nms_topk=300,
    nms="best class",
    nms_thresh=(0.5, 0.6, 0.7, 0.8, 0.9),
    regressed_boxes=True,
    attribute_background=False,
)
"""airsplay/py-bottom-up-attention, and Hugging Face's LXMERT demo, which was converted from it.

Source: its notebooks and detectron2_mscoco_proposal_maxnms.py; modeling_frcnn.py of
huggingface/transformers-research-projects.
"""
