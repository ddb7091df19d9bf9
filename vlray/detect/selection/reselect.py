"""Repeated selection from stored proposals: the options to collect them, and the rule to use.

Shapes: P: proposals of all images; K: classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import PBUA, VINVL, VINVL_NMS_THRESH
from vlray.detect.selection.rules import BestClass, EachClass, Proposals, Rule

LIGHT = ("score_thresh", "nms_thresh", "min_boxes", "max_boxes")
"""Options that change only the selection; all other options change the proposals."""
EVERY = 1_000_000  # more proposals than any image has


def rule_of(
    name: str,
    proposals: Proposals,
    class_probs: Callable[[int], Float32[np.ndarray, "P K"]] | None = None,
) -> Rule:
    """Return the selection rule of a detector.

    Args:
        name: The detector's name, as resolved by ``load.settled``. The user's own class is assumed
            to select regions with ``selection.select_regions``.
        proposals: Proposals that the detector returned with the options from ``collecting``.
        class_probs: Function from an image's index to the class probabilities of its proposals;
            only for ``vg-caffe``, which needs it.
    """
    if class_probs is not None:
        return EachClass(proposals, class_probs)
    if name == "vg-pbua":
        return BestClass(proposals, nms_thresh=PBUA.nms_thresh, within_class=False, filled=False)
    if name == "vinvl":
        thresholds = (VINVL_NMS_THRESH[2],)
        return BestClass(proposals, nms_thresh=thresholds, within_class=False, filled=False)
    return BestClass(proposals)


def collecting(options: DetectorSection, *, with_feats: bool) -> DetectorSection:
    """Return options with which a detector returns all of its proposals.

    The feature vectors from ``vg-caffe`` then begin with the probabilities of all classes (see
    ``VgCaffeCandidates``), even without ``with_feats``.

    Args:
        options: Options that ``load.settled`` returned.
        with_feats: Whether the proposals' feature vectors are needed.

    Raises:
        ValueError: The detector is ``vinvl`` with its filter 1, which needs all class
            probabilities, and gives a region the best class in which it survives.
    """
    if options.name == "vinvl" and (options.nms_filter or VINVL.nms_filter) == 1:
        raise ValueError(
            "vlray tune cannot select regions again by VinVL's filter 1; pass --nms-filter 2, or "
            "extract with each setting"
        )
    layer = options.features if options.features in ("fc6", "fc7") else "pooled"
    updates: dict[str, object] = {
        "score_thresh": 0.0,
        "nms_thresh": 1.0,  # no IoU is above it, so NMS suppresses nothing
        "min_boxes": 0,
        "max_boxes": EVERY,
        "features": layer if with_feats else "none",
    }
    if options.name == "vg-caffe":
        updates |= {
            "name": "vlray.detect.visual_genome.candidates:VgCaffeCandidates",
            "options": options.options | {"with_feats": with_feats},
            "features": "pooled",
        }
    return options.model_copy(update=updates)
