"""``lite``: the detector that ships with the package, for first runs, tests and small studies."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.lite import WEIGHTS
from vlray.detect.protocol import DetectorInfo
from vlray.detect.weights.files import cache_folder, locate, sha256
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch

# Measured with tests/benchmarks/lite_accuracy.py --min-size: larger images reveal more small
# objects, but the other objects become larger than in ImageNet's 224-pixel crops, and accuracy
# falls.
MIN_SIZE, MAX_SIZE = 416, 693

logger = logging.getLogger("vlray")


class Lite:
    """Detectron2's Faster R-CNN on EfficientNet-Lite0: COCO's 80 classes, 984-d features.

    ``options.weights`` may be another file that ``jobs/train_lite.py`` wrote, with any number of
    classes.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> ResizeShortestEdge:
        """Return the resize function, to ``lite``'s own size unless the options set another."""
        return ResizeShortestEdge(options.min_size or MIN_SIZE, options.max_size or MAX_SIZE)

    def __init__(self, options: DetectorSection) -> None:
        """Build the network and load its weights.

        Raises:
            ValueError: ``options.options`` is not empty, or the weights do not fit ``lite``'s
                network.
        """
        if options.options:
            raise ValueError(
                f"lite takes no detector.options; remove {', '.join(sorted(options.options))}"
            )
        # Torch and Detectron2 take seconds to import, and the driver needs only `resize`.
        from vlray.detect.d2.features import find_regions_of, pool_boxes_of
        from vlray.detect.device import open_device
        from vlray.detect.lite.grid import grid_dim, grid_of
        from vlray.detect.lite.model import FEATURE_DIM
        from vlray.detect.lite.weights import load_lite

        path = locate(options.weights) if options.weights else WEIGHTS
        self.model, obj_names = load_lite(path)
        self.model.to(open_device(options))
        self._find = functools.partial(find_regions_of, self.model, options=options)
        self._pool = functools.partial(pool_boxes_of, self.model, options=options)
        self._grid = functools.partial(grid_of, self.model, options=options)
        is_grid = options.features == "grid"
        self.info = DetectorInfo(
            name="lite",
            feature_dim=grid_dim(options.grid_layer) if is_grid else FEATURE_DIM,
            obj_names=obj_names,
            weights_sha256=sha256(path),
        )
        _log_purpose()

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in images; images of one size share one forward pass."""
        if len({image.shape for image in images}) > 1:
            return RegionBatch.concat(
                [self([image], image_hw[i : i + 1]) for i, image in enumerate(images)]
            )
        regions: RegionBatch = self._find(images, image_hw)
        return regions

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes, in pixels of the original images, from images of one size."""
        regions: RegionBatch = self._pool(images, image_hw, boxes)
        return regions

    def grid(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Compute grid features: the cells of ``options.grid_layer``, of images of one size."""
        regions: RegionBatch = self._grid(images, image_hw)
        return regions


@functools.cache
def _log_purpose() -> None:
    """Log once per user that ``lite`` is not meant for published results."""
    logged = cache_folder().parent / "lite-explained"
    if logged.exists():
        return
    with contextlib.suppress(OSError):  # without a cache, the message appears in every run
        logged.parent.mkdir(parents=True, exist_ok=True)
        logged.touch()
    logger.info(
        "The detector lite was trained on a few hundred photographs. Use it for a first run, tests "
        "and small studies. To compare with published results, use the Visual Genome detector: "
        "--detector.name vg-caffe."
    )
