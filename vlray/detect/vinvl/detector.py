"""``vinvl``, the detector of VinVL's features.

Importing this module does not import torch, because the driver needs only ``resize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.conventions import VINVL, VINVL_NMS_THRESH, VinvlConventions
from vlray.detect.protocol import DetectorInfo, Resize
from vlray.detect.vinvl.label_map import check_numbers, read_label_map
from vlray.detect.weights.files import locate
from vlray.images.resize import ResizeTruncated
from vlray.regions.batch import RegionBatch


def weights_of(options: DetectorSection) -> str:
    """Return ``options.weights``, which has no default for this detector.

    Raises:
        ValueError: The option is empty.
    """
    if not options.weights:
        raise ValueError(
            "vinvl needs --detector.weights: vinvl_vg_x152c4.pth of VinVL's model zoo, as a local "
            "file or a URL; and --detector.labels VG-SGG-dicts-vgoi6-clipped.json for class names"
        )
    return options.weights


def check_files(options: DetectorSection) -> None:
    """Convert new weights, and check them and the label map, before any actor starts.

    Raises:
        ValueError: The weights are missing or do not fit, or the label map does not fit them.
    """
    from vlray.detect.vinvl.checkpoint import layout_of_weights

    layout = layout_of_weights(weights_of(options))
    _names(options.labels, layout.objects, layout.attributes)


class Vinvl:
    """ResNeXt-152 C4 with 1,594 object classes and 524 attributes, and its relatives.

    The network's sizes are read from the weights. The options ``min_size``, ``max_size``,
    ``nms_filter``, ``nms_thresh`` and ``post_nms_topk`` override the conventions.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Return the resize function that the conventions prescribe."""
        rules = cls.rules(options)
        return ResizeTruncated(rules.min_size, rules.max_size)

    @classmethod
    def rules(cls, options: DetectorSection) -> VinvlConventions:
        """Return the conventions, overridden by the options.

        Raises:
            ValueError: ``options.options`` is not empty.
        """
        if options.options:
            raise ValueError(
                f"vinvl takes no detector.options; remove {', '.join(sorted(options.options))}"
            )
        nms_filter = options.nms_filter or VINVL.nms_filter
        return replace(
            VINVL,
            min_size=options.min_size or VINVL.min_size,
            max_size=options.max_size or VINVL.max_size,
            post_nms_topk=options.post_nms_topk or VINVL.post_nms_topk,
            nms_filter=nms_filter,
            nms="each class" if nms_filter == 1 else "best class",
            nms_thresh=(options.nms_thresh or VINVL_NMS_THRESH[nms_filter],),
        )

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights; a published file is converted the first time.

        Raises:
            ValueError: The weights are missing or do not fit, or the label map does not fit them.
        """
        # Torch and Detectron2 take seconds to import, and the driver needs only `resize`.
        from vlray.detect.device import open_device
        from vlray.detect.vinvl.checkpoint import load_vinvl
        from vlray.detect.vinvl.model import build_vinvl
        from vlray.detect.vinvl.regions import VinvlRegionFinder

        rules = self.rules(options)
        checkpoint = load_vinvl(weights_of(options))
        layout = checkpoint.layout
        network = build_vinvl(checkpoint.tensors, layout, options.precision, open_device(options))
        self._find = VinvlRegionFinder(network, rules, options)
        names = _names(options.labels, layout.objects, layout.attributes)
        on_c4 = options.features == "grid" and options.grid_layer == "c4"
        self.info = DetectorInfo(
            name="vinvl",
            feature_dim=layout.c4_dim if on_c4 else layout.feature_dim,
            obj_names=names[0],
            attr_names=names[1],
            weights_sha256=checkpoint.sha256,
            conventions=rules.described(),
        )

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in images of one size, in one forward pass, without padding.

        Args:
            images: BGR images as ``resize`` returned them; the mean is not subtracted yet.
            image_hw: Height and width of the original images, in pixels.
        """
        return self._find(images, image_hw)

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes, in pixels of the original images, unchanged.

        The boxes of an output of ``vinvl`` yield its features again. Their x2 and y2 are the last
        pixels inside, as in VinVL's own files.
        """
        return self._find.pool_boxes(images, image_hw, boxes)

    def grid(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Compute grid features: the cells of the feature map ``options.grid_layer``."""
        return self._find.grid(images, image_hw)


def _names(labels: str, objects: int, attributes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of classes and attributes; without a label map, numbers from 1 as there."""
    if not labels:
        return (
            tuple(f"object {index + 1}" for index in range(objects)),
            tuple(f"attribute {index + 1}" for index in range(attributes)),
        )
    path = locate(labels)
    names = read_label_map(path)
    check_numbers(names, objects, attributes, path)
    return names[0], names[1] if attributes else ()
