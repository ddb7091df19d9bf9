"""Any Detectron2 R-CNN as a detector, from its YAML configuration and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from jaxtyping import Float32, Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.d2.checkpoint import load_weights
from vlray.detect.d2.config import check_grid, load_config, weights_of
from vlray.detect.d2.features import feature_dim_of, find_regions_of, pool_boxes_of
from vlray.detect.d2.grid import grid_dim_of, grid_of
from vlray.detect.device import device_of
from vlray.detect.protocol import DetectorInfo, Resize
from vlray.detect.weights.files import locate, sha256
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch


class Detectron:
    """Regions of a Detectron2 network: C4 (res5), DC5, FPN or cascade, masks and keypoints unused.

    ``options.name`` is the configuration; ``options.weights`` are those it was trained to, by
    default its own. ``options.options["obj_names"]`` names the classes of a dataset that Detectron2
    does not know.

    A region is a proposal with its best class, where Detectron2 itself would also report the
    proposal's other classes above the threshold. Its vector is what the box predictor sees.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Give the configuration's resizing for tests; the options' sizes come first."""
        sizes = load_config(options).INPUT
        min_size = options.min_size or sizes.MIN_SIZE_TEST
        if not min_size:
            raise ValueError(
                f"{options.name} leaves images in their own size (INPUT.MIN_SIZE_TEST is 0), which "
                "vlray cannot bound; give detector.min_size and detector.max_size"
            )
        return ResizeShortestEdge(min_size, options.max_size or sizes.MAX_SIZE_TEST)

    def __init__(self, options: DetectorSection) -> None:
        """Build the network and load its weights."""
        unknown = options.options.keys() - {"obj_names"}
        if unknown:
            raise ValueError(
                f"detector.options {sorted(unknown)} mean nothing to a Detectron2 configuration; "
                "it knows obj_names"
            )
        cfg = load_config(options)
        cfg.MODEL.DEVICE = str(device_of(options))
        weights = locate(weights_of(options))
        self._options = options
        self._is_rgb = cfg.INPUT.FORMAT == "RGB"
        self._model = build_model(cfg).eval()
        load_weights(self._model, weights)
        feature_dim = feature_dim_of(self._model)
        if options.features == "grid":
            check_grid(options)
            feature_dim = grid_dim_of(self._model, options)
        self.info = DetectorInfo(
            name=Path(options.name).stem,
            feature_dim=feature_dim,
            obj_names=_obj_names(cfg, options),
            weights_sha256=sha256(weights),
        )

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Find the regions of images of one size, BGR, in one forward pass.

        Beyond the multiple of 32 that a feature pyramid needs, nothing is padded, so that an
        image's regions do not depend on the others in its batch.
        """
        return find_regions_of(self._model, self._in_order(images), image_hw, self._options)

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool given boxes, in pixels of the original images; see ``pool_boxes_of``."""
        return pool_boxes_of(self._model, self._in_order(images), image_hw, boxes)

    def grid(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Give the cells of ``options.grid_layer``'s map over the whole images."""
        return grid_of(self._model, self._in_order(images), image_hw, self._options)

    def _in_order(self, images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Bring BGR into the network's order of channels."""
        return [image[:, :, ::-1] for image in images] if self._is_rgb else images


def _obj_names(cfg: Any, options: DetectorSection) -> tuple[str, ...]:
    """Name the classes: as the options say, else as the test dataset does, else by number."""
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    given = options.options.get("obj_names")
    if given is not None:
        if len(given) != num_classes:
            raise ValueError(
                f"detector.options.obj_names has {len(given)} names, but {options.name} has "
                f"MODEL.ROI_HEADS.NUM_CLASSES={num_classes}; give one name for each class"
            )
        return tuple(map(str, given))
    for dataset in cfg.DATASETS.TEST:
        names = MetadataCatalog.get(dataset).get("thing_classes")
        if names and len(names) == num_classes:
            return tuple(names)
    return tuple(f"class {index}" for index in range(num_classes))
