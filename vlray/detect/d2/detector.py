"""Any Detectron2 R-CNN as a detector, from its YAML configuration and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from jaxtyping import Float32, Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.d2.attributes import attach_attributes
from vlray.detect.d2.box_head import feature_dim_of
from vlray.detect.d2.checkpoint import load_weights
from vlray.detect.d2.config import check_grid, load_config
from vlray.detect.d2.features import find_regions_of, pool_boxes_of
from vlray.detect.d2.files import weights_of
from vlray.detect.d2.grid import grid_dim_of, grid_of
from vlray.detect.device import open_device
from vlray.detect.protocol import DetectorInfo, Resize
from vlray.detect.weights.files import locate, sha256
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch
from vlray.regions.vocabulary import visual_genome_attributes, visual_genome_objects


class Detectron:
    """Detectron2 network with a box head: C4 (res5), DC5, FPN or cascade.

    ``options.name`` is the configuration. ``options.weights`` are weights that were trained with
    it; if empty, ``weights_of`` looks them up. ``options.options["obj_names"]`` lists the class
    names, for datasets that Detectron2 does not know, and ``attr_names`` the attributes of
    grid-feats-vqa's networks. Masks and keypoints are not computed.

    A region is a proposal with its best class; Detectron2 itself would also report the proposal's
    other classes above the threshold. Its feature vector is the input of the box predictor, or the
    output of a layer before it (``features=fc6``). Its attribute is the best one for that class.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Return the inference resize function; the options' sizes override the configuration's.

        Raises:
            ValueError: The configuration does not resize images, and ``min_size`` is not set.
        """
        sizes = load_config(options).INPUT
        min_size = options.min_size or sizes.MIN_SIZE_TEST
        if not min_size:
            raise ValueError(
                f"{options.name} does not resize images (INPUT.MIN_SIZE_TEST is 0), so nothing "
                "limits their memory; set detector.min_size and detector.max_size"
            )
        return ResizeShortestEdge(min_size, options.max_size or sizes.MAX_SIZE_TEST)

    def __init__(self, options: DetectorSection) -> None:
        """Build the network and load its weights.

        Raises:
            ValueError: ``options.options`` has unknown keys, or the configuration or the weights
                cannot be used.
        """
        unknown = options.options.keys() - {"obj_names", "attr_names"}
        if unknown:
            raise ValueError(
                "unknown detector.options for a Detectron2 configuration: "
                f"{', '.join(sorted(unknown))}; supported are obj_names and attr_names"
            )
        cfg = load_config(options)
        cfg.MODEL.DEVICE = str(open_device(options))
        weights = locate(weights_of(options))
        self._options = options
        self._is_rgb = cfg.INPUT.FORMAT == "RGB"
        self._model = build_model(cfg)
        with_attributes = cfg.MODEL.ATTRIBUTE_ON and options.features != "grid"
        if with_attributes:
            attach_attributes(self._model, cfg, feature_dim_of(self._model, "pooled"))
        self._model.eval()
        load_weights(self._model, weights)
        if options.features == "grid":  # cells' vectors may have another length than regions'
            check_grid(options)
            feature_dim = grid_dim_of(self._model, options)
        else:
            feature_dim = feature_dim_of(self._model, options.features)
        self.info = DetectorInfo(
            name=Path(options.name).stem,
            feature_dim=feature_dim,
            obj_names=_obj_names(cfg, options),
            attr_names=_attr_names(cfg, options) if with_attributes else (),
            weights_sha256=sha256(weights),
        )

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in BGR images of one size, in one forward pass.

        Images are padded only to the multiple of 32 that a feature pyramid needs, so an image's
        regions do not depend on the other images in its batch.
        """
        return find_regions_of(self._model, self._in_order(images), image_hw, self._options)

    def pool_boxes(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes, in pixels of the original images; see ``pool_boxes_of``."""
        return pool_boxes_of(self._model, self._in_order(images), image_hw, boxes, self._options)

    def grid(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Compute grid features: the cells of the feature map ``options.grid_layer``."""
        return grid_of(self._model, self._in_order(images), image_hw, self._options)

    def _in_order(self, images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Reverse the BGR channels if the network expects RGB."""
        return [image[:, :, ::-1] for image in images] if self._is_rgb else images


def _obj_names(cfg: CfgNode, options: DetectorSection) -> tuple[str, ...]:
    """Return the class names in the options, else the test dataset's, else numbered names.

    Raises:
        ValueError: The options have the wrong number of names.
    """
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if names := _given_names(options, "obj_names", num_classes, "MODEL.ROI_HEADS.NUM_CLASSES"):
        return names
    for dataset in cfg.DATASETS.TEST:
        names = MetadataCatalog.get(dataset).get("thing_classes")
        if dataset.startswith("visual_genome"):  # of grid-feats-vqa; Detectron2 has no such dataset
            names = visual_genome_objects()
        if names and len(names) == num_classes:
            return tuple(names)
    return tuple(f"class {index}" for index in range(num_classes))


def _attr_names(cfg: CfgNode, options: DetectorSection) -> tuple[str, ...]:
    """Return the attribute names in the options, else Visual Genome's, else numbered names.

    Raises:
        ValueError: The options have the wrong number of names.
    """
    num_attributes = cfg.MODEL.ROI_ATTRIBUTE_HEAD.NUM_CLASSES
    key = "MODEL.ROI_ATTRIBUTE_HEAD.NUM_CLASSES"
    if names := _given_names(options, "attr_names", num_attributes, key):
        return names
    if len(visual_genome_attributes()) == num_attributes:
        return visual_genome_attributes()
    return tuple(f"attribute {index}" for index in range(num_attributes))


def _given_names(options: DetectorSection, option: str, count: int, key: str) -> tuple[str, ...]:
    """Return the names in ``options.options``; empty if they are not set.

    Raises:
        ValueError: Their number differs from the configuration's.
    """
    names = options.options.get(option, ())
    if names and len(names) != count:
        raise ValueError(
            f"detector.options.{option} lists {len(names)} names, but {options.name} has "
            f"{key}={count}; list one name for each class"
        )
    return tuple(map(str, names))
