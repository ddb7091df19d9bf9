"""Selecting again from the proposals that a detector gave: what to ask it for, and by which rule.

Shapes: P proposals of all images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import PBUA
from vlray.detect.selection.rules import BestClass, EachClass, Proposals, Rule

LIGHT = ("score_thresh", "nms_thresh", "min_boxes", "max_boxes")
"""The options that only select: others change the proposals."""
EVERY = 1_000_000  # proposals of an image, more than there can be


def rule_of(
    name: str,
    proposals: Proposals,
    class_probs: Callable[[int], Float32[np.ndarray, "P K"]] | None = None,
) -> Rule:
    """Give the rule of a detector.

    Args:
        name: As ``load.settled`` gives it. A class of the user's own is taken to select as
            ``selection.select_regions`` does.
        proposals: Its own, as ``collecting`` asks for them.
        class_probs: Gives the probabilities of an image's proposals, for ``vg-caffe``.
    """
    if class_probs is not None:
        return EachClass(proposals, class_probs)
    if name == "vg-pbua":
        return BestClass(proposals, nms_thresh=PBUA.nms_thresh, within_class=False, filled=False)
    return BestClass(proposals)


def collecting(options: DetectorSection, *, with_feats: bool) -> DetectorSection:
    """Give the options under which a detector gives all of its proposals.

    ``vg-caffe`` then begins each vector with the probabilities of all classes (see
    ``vg_candidates``); others have none where none are asked for.

    Args:
        options: Settled.
        with_feats: Whether the proposals' own vectors are wanted.
    """
    found: dict[str, Any] = {
        "score_thresh": 0.0,
        "nms_thresh": 1.0,
        "min_boxes": 0,
        "max_boxes": EVERY,
        "features": "pooled" if with_feats else "none",
    }
    if options.name == "vg-caffe":
        found |= {
            "name": "vlray.detect.visual_genome.candidates:VgCaffeCandidates",
            "options": options.options | {"with_feats": with_feats},
            "features": "pooled",
        }
    return options.model_copy(update=found)
