"""Conventions of the published Visual Genome features, with their sources.

The published features differ in a dozen small rules, and a model that was trained on one set of
features loses accuracy on another. Each preset is one set of rules; its numbers are defined only
here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Conventions:
    """Rules that turn an image into regions. Lengths are in pixels of the resized image."""

    min_size: int
    """Length of the shorter side after resizing."""

    max_size: int
    """Maximum length of the longer side after resizing."""

    resize: Literal["opencv", "pillow", "pillow truncated"]
    """``opencv``: bilinear on float32, one scale for both axes, no rounding. ``pillow``: bilinear
    with antialiasing on uint8, sides rounded to whole pixels, one scale for each axis. ``pillow
    truncated``: the same, but the longer side is truncated instead of rounded."""

    anchors: Literal["caffe", "centered"]
    """``caffe``: rounded corners around (7.5, 7.5). ``centered``: Detectron2's, around (0, 0)."""

    plus_one: bool
    """Whether a box from 0 to 15 counts as 16 pixels wide. If so, boxes are clipped to
    ``width - 1`` and ``height - 1``."""

    clamp_deltas: bool
    """Whether box regression enlarges a side at most 62.5 times, as in Detectron2. If false, there
    is no limit."""

    min_side: int
    """Minimum side of a proposal, in pixels of the original image. Smaller proposals are dropped
    before ``pre_nms_topk`` is applied. 0: only proposals with zero area are dropped, after
    ``pre_nms_topk``."""

    rpn_nms_thresh: float
    """IoU above which a proposal suppresses another one with lower objectness."""

    pre_nms_topk: int
    """Number of proposals that enter NMS: those with the highest objectness."""

    post_nms_topk: int
    """Maximum number of proposals that are kept after NMS and pooled."""

    nms: Literal["each class", "best class"]
    """``each class``: NMS runs within each class; a region is kept if it survives in any of them.
    ``best class``: NMS runs once over all regions, scored by their best class."""

    nms_thresh: tuple[float, ...]
    """IoU thresholds, tried in turn until at least ``min_boxes`` regions survive."""

    regressed_boxes: bool
    """Whether a region's box is regressed for its best class after pooling. If false, the box is
    the pooled proposal."""

    attribute_background: bool
    """Whether the attribute softmax includes "no attribute"; without it, scores are higher."""

    def described(self) -> dict[str, object]:
        """Return the conventions as plain types, to be stored as an output's provenance."""
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
"""Bottom-up attention (arXiv:1707.07998) in Caffe, as run for LXMERT's published features.

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
"""airsplay/py-bottom-up-attention, and Hugging Face's LXMERT demo, which is a port of it.

Source: airsplay/py-bottom-up-attention, its notebooks and detectron2_mscoco_proposal_maxnms.py;
huggingface/transformers-research-projects, modeling_frcnn.py.
"""


@dataclass(frozen=True)
class VinvlConventions(Conventions):
    """Rules that only VinVL's detector has."""

    nms_filter: Literal[1, 2]
    """VinVL's number of the rule in ``nms``: 1 for ``each class``, 2 for ``best class``."""

    nms_plus_one: bool
    """Whether NMS counts a box from 0 to 15 as 16 pixels wide, too."""

    attribute_thresh: float
    """Attributes with a probability of at most this count as absent; their probability is 0."""


VINVL = VinvlConventions(
    min_size=600,
    max_size=1000,
    resize="pillow truncated",
    anchors="caffe",
    plus_one=True,
    clamp_deltas=True,
    min_side=0,
    rpn_nms_thresh=0.7,
    pre_nms_topk=6000,
    post_nms_topk=300,
    nms="each class",
    nms_thresh=(0.3,),
    regressed_boxes=False,
    attribute_background=True,
    nms_filter=1,
    nms_plus_one=False,
    attribute_thresh=0.05,
)
"""VinVL (arXiv:2101.00529) as its README extracts features: MODEL.ROI_HEADS.NMS_FILTER 1.

Source: microsoft/scene_graph_benchmark, sgg_configs/vgattr/vinvl_x152c4.yaml, AttrRCNN.py and
box_head/inference.py. According to issue 8 there, the released features were made with this filter.
"""

VINVL_NMS_THRESH = {1: 0.3, 2: 0.5}
"""IoU threshold of each of VinVL's two filters."""
