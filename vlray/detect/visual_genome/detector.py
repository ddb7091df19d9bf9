"""``vg-caffe`` and ``vg-pbua``, two detectors with the Visual Genome Faster R-CNN.

Importing this module does not import torch, because the driver needs only ``resize``.
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
    """Return ``options.weights``, which has no default for these detectors.

    Raises:
        ValueError: The option is empty.
    """
    if not options.weights:
        raise ValueError(
            f"{options.name} needs --detector.weights: pytorch_model.bin of "
            "unc-nlp/frcnn-vg-finetuned (Hugging Face), faster_rcnn_from_caffe_attr.pkl (airsplay) "
            "or bua-caffe-frcn-r101_with_attributes.pth (MILVLG), as a local file, a URL or a name "
            "on the Hugging Face Hub"
        )
    return options.weights


class VgDetector:
    """ResNet-101 C4 with 1,600 object classes and 400 attributes, under one set of conventions.

    ``options.weights`` may be in any of the three published forms (see ``load_vg``). The options
    ``min_size``, ``max_size``, ``nms_thresh`` and ``post_nms_topk`` override the conventions.
    """

    name: ClassVar[str]
    """The preset's name."""

    conventions: ClassVar[Conventions]
    """The preset's conventions, before options override them."""

    with_class_probs: ClassVar[bool] = False
    """Whether each region's feature vector begins with the probabilities of all classes."""

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Return the resize function that the conventions prescribe."""
        rules = cls.rules(options)
        kind = ResizeLikeCaffe if rules.resize == "opencv" else ResizeShortestEdge
        return kind(rules.min_size, rules.max_size)

    @classmethod
    def rules(cls, options: DetectorSection) -> Conventions:
        """Return the preset's conventions, overridden by the options.

        Raises:
            ValueError: ``options.options`` is not empty.
        """
        if options.options:
            raise ValueError(
                f"{cls.name} takes no detector.options; remove {', '.join(sorted(options.options))}"
            )
        defaults = cls.conventions
        return replace(
            defaults,
            min_size=options.min_size or defaults.min_size,
            max_size=options.max_size or defaults.max_size,
            post_nms_topk=options.post_nms_topk or defaults.post_nms_topk,
            nms_thresh=(options.nms_thresh,) if options.nms_thresh else defaults.nms_thresh,
        )

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights; a published file is converted the first time.

        Raises:
            ValueError: The weights are missing, or do not fit this network.
        """
        # Torch and Detectron2 take seconds to import, and the driver needs only `resize`.
        from vlray.detect.device import open_device
        from vlray.detect.visual_genome.checkpoint import load_vg
        from vlray.detect.visual_genome.model import build_vg
        from vlray.detect.visual_genome.regions import RegionFinder

        rules = self.rules(options)
        checkpoint = load_vg(weights_of(options))
        device = open_device(options)
        network = build_vg(
            checkpoint.tensors, options.precision, device, options.backbone_precision
        )
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
        """Detect the regions in images of one size, in one forward pass, without padding.

        Args:
            images: BGR images as ``resize`` returned them; the mean is not subtracted yet.
            image_hw: Height and width of the original images, in pixels.
        """
        return self._find(images, image_hw)

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes, in pixels of the original images, unchanged.

        ``vg-caffe`` returns the boxes that it pooled, so pooling them again yields the same
        features. ``vg-pbua`` moves boxes after pooling, so pooling them yields other features.
        """
        return self._find.pool_boxes(images, image_hw, boxes)

    def grid(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
    ) -> RegionBatch:
        """Compute grid features: the cells of the feature map ``options.grid_layer``."""
        return self._find.grid(images, image_hw)


class VgCaffe(VgDetector):
    """Detector with the conventions of the published LXMERT and bottom-up-attention features."""

    name = "vg-caffe"
    conventions = CAFFE


class VgPbua(VgDetector):
    """Detector with the conventions of py-bottom-up-attention and Hugging Face's LXMERT demo."""

    name = "vg-pbua"
    conventions = PBUA
