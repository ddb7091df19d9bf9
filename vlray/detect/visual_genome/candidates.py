"""All proposals from ``vg-caffe``, with the class probabilities that its selection rule needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from jaxtyping import Int32

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import Conventions
from vlray.detect.visual_genome.detector import VgCaffe
from vlray.detect.visual_genome.shapes import FEATURE_DIM, OBJECTS
from vlray.regions.batch import RegionBatch


class VgCaffeCandidates(VgCaffe):
    """``vg-caffe``, but each feature vector begins with the probabilities of all classes.

    If ``options.options["with_feats"]`` is true, the proposal's own feature vector follows.
    """

    with_class_probs: ClassVar[bool] = True

    @classmethod
    def rules(cls, options: DetectorSection) -> Conventions:
        """Return the conventions of ``vg-caffe``."""
        # vg-caffe itself refuses every entry of options.options.
        others = {name: value for name, value in options.options.items() if name != "with_feats"}
        return super().rules(options.model_copy(update={"options": others}))

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights."""
        super().__init__(options)
        dim = OBJECTS + FEATURE_DIM if options.options.get("with_feats") else OBJECTS
        self.info = replace(self.info, feature_dim=dim)

    def __call__(
        self, images: Sequence[np.ndarray], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in images of one size, as ``vg-caffe`` does."""
        regions = super().__call__(images, image_hw)
        return replace(regions, visual_feats=regions.visual_feats[:, : self.info.feature_dim])
