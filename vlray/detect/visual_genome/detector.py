"""The Visual Genome Faster R-CNN as detectors: ``vg-caffe`` and ``vg-pbua``.

Light to import: the driver asks these classes for ``resize`` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import CAFFE, PBUA, Conventions
from vlray.detect.protocol import DetectorInfo, Resize
from vlray.detect.visual_genome.shapes import C4_DIM, FEATURE_DIM
from vlray.images.resize import ResizeLikeCaffe, ResizeShortestEdge
from vlray.regions.batch import RegionBatch
from vlray.regions.vocabulary import visual_genome_attributes, visual_genome_objects


def weights_of(options: DetectorSection) -> str:
    """Give the weights that were asked for.

    Raises:
        ValueError: None were.
    """
    if not options.weights:
        raise ValueError(
            f"{options.name} wants --detector.weights: pytorch_model.bin of "
            "unc-nlp/frcnn-vg-finetuned (Hugging Face), faster_rcnn_from_caffe_attr.pkl (airsplay) "
            "or bua-caffe-frcn-r101_with_attributes.pth (MILVLG), as a local file, a URL or a name "
            "on the Hugging Face hub"
        )
    return options.weights


class VgDetector:
    """R101-C4 with 1,600 objects and 400 attributes under one set of conventions.

    ``options.weights`` is any of the three published forms (see ``vg_checkpoint``); the options'
    sizes, ``nms_thresh`` and ``post_nms_topk`` come before those of the conventions.
    """

    name: ClassVar[str]
    conventions: ClassVar[Conventions]
    with_class_probs: ClassVar[bool] = False

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Give the resizing of the conventions."""
        rules = cls.rules(options)
        kind = ResizeLikeCaffe if rules.resize == "opencv" else ResizeShortestEdge
        return kind(rules.min_size, rules.max_size)

    @classmethod
    def rules(cls, options: DetectorSection) -> Conventions:
        """Give the conventions with what the options change of them.

        Raises:
            ValueError: Options are given that mean nothing here.
        """
        if options.options:
            raise ValueError(
                f"{cls.name} has no detector.options, remove {sorted(options.options)}"
            )
        own = cls.conventions
        return replace(
            own,
            min_size=options.min_size or own.min_size,
            max_size=options.max_size or own.max_size,
            post_nms_topk=options.post_nms_topk or own.post_nms_topk,
            nms_thresh=(options.nms_thresh,) if options.nms_thresh else own.nms_thresh,
        )

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights; the first time, a published file is turned into its canonical form.

        Raises:
            ValueError: The weights are not there, or not those of this network.
        """
        # Torch and Detectron2 take seconds to import; the driver does without them.
        from vlray.detect.device import device_of
        from vlray.detect.visual_genome.checkpoint import load_vg
        from vlray.detect.visual_genome.model import build_vg
        from vlray.detect.visual_genome.regions import RegionFinder

        rules = self.rules(options)
        checkpoint = load_vg(weights_of(options))
        network = build_vg(checkpoint.tensors, options.precision, device_of(options))
        self._find = RegionFinder(network, rules, options, self.with_class_probs)
        on_c4 = options.features == "grid" and options.grid_layer == "c4"
        self.info = DetectorInfo(
            name=self.name,
            feature_dim=C4_DIM if on_c4 else FEATURE_DIM,
            obj_names=visual_genome_objects(),
            attr_names=visual_genome_attributes() if checkpoint.has_attributes else (),
            weights_sha256=checkpoint.sha256,
            conventions=rules.described() | {"weights_flavour": checkpoint.flavour},
        )

    def __call__(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
    ) -> RegionBatch:
        """Find the regions of images of one size in one pass; nothing is padded.

        Args:
            images: BGR, as ``resize`` makes them, mean not yet subtracted.
            image_hw: (N, 2) height and width of the original images, pixels.
        """
        return self._find(images, image_hw)

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool given boxes, in pixels of the original images, as they are.

        The boxes that ``vg-caffe`` finds are those that it pooled: given back, they have the same
        features. Those of ``vg-pbua`` were moved after pooling, so given back they have others.
        """
        return self._find.pool_boxes(images, image_hw, boxes)

    def grid(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
    ) -> RegionBatch:
        """Give the cells of ``options.grid_layer``'s map over the whole images."""
        return self._find.grid(images, image_hw)


class VgCaffe(VgDetector):
    """The reference: what the published LXMERT and bottom-up-attention features are."""

    name = "vg-caffe"
    conventions = CAFFE


class VgPbua(VgDetector):
    """What py-bottom-up-attention and Hugging Face's LXMERT demo compute."""

    name = "vg-pbua"
    conventions = PBUA
