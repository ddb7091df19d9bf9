"""The two rules by which the presets select proposals.

Shapes: P: proposals of one image; K: 1,600 classes; R: selected regions.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import Conventions
from vlray.detect.selection.per_class import confidence_of
from vlray.detect.selection.rules import most_confident, select_one


def each_class(
    boxes: Float32[np.ndarray, "P 4"],
    probs: Float32[np.ndarray, "P K"],
    rules: Conventions,
    options: DetectorSection,
) -> Int64[np.ndarray, " R"]:
    """Select proposals by the rule ``EachClass``.

    On the CPU, also of a GPU's proposals: a GPU would need thousands of launches, one core needs
    3 ms.

    Source:
        generate_tsv.py of bottom-up attention.
    """
    (nms_thresh,) = rules.nms_thresh  # only presets with "best class" have several
    exact = boxes.astype(np.float64)
    if rules.plus_one:  # as visual_genome.proposals.widened
        exact[:, 2:] += 1
    return most_confident(confidence_of(exact, probs, nms_thresh), options)


def best_class(
    boxes: Float32[np.ndarray, "P 4"],
    scores: Float32[np.ndarray, " P"],
    rules: Conventions,
    options: DetectorSection,
) -> Int64[np.ndarray, " R"]:
    """Select proposals by the rule ``BestClass``, with NMS across classes.

    If no threshold leaves ``min_boxes`` survivors, the survivors of the last one are selected, and
    the image has fewer regions. Hugging Face's code would return the previous image's boxes.

    Source:
        detectron2_mscoco_proposal_maxnms.py of py-bottom-up-attention.
    """
    return select_one(
        boxes,
        np.zeros(len(scores), np.int64),
        scores,
        options.model_copy(update={"nms_thresh": 0}),
        nms_thresh=rules.nms_thresh,
        within_class=False,
        filled=False,
    )
