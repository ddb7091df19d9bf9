"""All proposals of ``vg-caffe``, with the class probabilities that its selection needs."""

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
    """``vg-caffe`` whose feature vectors begin with the probabilities of all classes.

    ``options.options["with_feats"]``: whether the proposal's own vector follows.
    """

    with_class_probs: ClassVar[bool] = True

    @classmethod
    def rules(cls, options: DetectorSection) -> Conventions:
        """Return the conventions of ``vg-caffe``."""
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
        """Detect the regions of images of one size, as ``vg-caffe`` does."""
        regions = super().__call__(images, image_hw)
        return replace(regions, visual_feats=regions.visual_feats[:, : self.info.feature_dim])
