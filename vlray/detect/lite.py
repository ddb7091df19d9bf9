"""``lite``: the detector inside the package, for a first run, tests and small studies."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

# isort: off
import vlray.detect.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
from jaxtyping import Int32, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlray.config.detector import DetectorSection
from vlray.detect.device import device_of
from vlray.detect.features import find_regions_of
from vlray.detect.lite_model import FEATURE_DIM, build_lite, trained_names
from vlray.detect.protocol import DetectorInfo
from vlray.detect.weights import locate, sha256
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch

WEIGHTS = Path(__file__).with_name("lite.safetensors")
# Measured: larger images show more small objects, but the rest no longer looks as in ImageNet's
# photographs of 224 pixels, and accuracy falls (see tests/benchmarks/lite_accuracy.py --min-size).
MIN_SIZE, MAX_SIZE = 416, 693

logger = logging.getLogger("vlray")


class Lite:
    """Detectron2's Faster R-CNN on EfficientNet-Lite0: COCO's 80 classes, 512 values a region.

    ``options.weights`` may name another file that ``jobs/train_lite.py`` made, of as many classes
    as it likes.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> ResizeShortestEdge:
        """Give the network's input size; the options' sizes come first."""
        return ResizeShortestEdge(options.min_size or MIN_SIZE, options.max_size or MAX_SIZE)

    def __init__(self, options: DetectorSection) -> None:
        """Build the network and load its weights.

        Raises:
            ValueError: Options are given that mean nothing here, or the weights are not of
                ``lite``'s network.
        """
        if options.options:
            raise ValueError(f"lite has no detector.options, remove {sorted(options.options)}")
        path = locate(options.weights) if options.weights else WEIGHTS
        weights, obj_names = read_weights(path)
        self.model = build_lite(len(obj_names))
        _check_fit(path, weights, self.model.state_dict(), trained_names(self.model))
        self.model.load_state_dict(weights, strict=False)
        self.model.eval().to(device_of(options))
        self.info = DetectorInfo(
            name="lite", feature_dim=FEATURE_DIM, obj_names=obj_names, weights_sha256=sha256(path)
        )
        self._options = options
        _say_what_lite_is_for()

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Find the regions of images; those of one size in one forward pass, others in turn."""
        if len({image.shape for image in images}) > 1:
            return RegionBatch.concat(
                [self([image], image_hw[i : i + 1]) for i, image in enumerate(images)]
            )
        return find_regions_of(self.model, images, image_hw, self._options)


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a weights file of ``lite``: its tensors in float32, and the names of its classes.

    Raises:
        ValueError: The file is damaged, or ``jobs/train_lite.py`` did not make it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            obj_names = json.loads((file.metadata() or {})["obj_names"])
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds no weights of lite ({type(error).__name__}: {error}); "
            "give a file that jobs/train_lite.py made, or leave detector.weights empty"
        ) from error
    return weights, tuple(obj_names)


def _check_fit(
    path: Path, weights: dict[str, Tensor], expected: dict[str, Tensor], trained: set[str]
) -> None:
    """Compare names and shapes; ImageNet's share of the network is never in the file."""
    problems = sorted(
        name
        for name in weights.keys() | trained
        if name not in weights or name not in trained or weights[name].shape != expected[name].shape
    )
    if problems:
        raise ValueError(
            f"{path} does not fit lite's network: {len(problems)} tensors are missing, unknown or "
            f"of another shape, the first is {problems[0]}; train it again with this version's "
            "jobs/train_lite.py"
        )


@functools.cache
def _say_what_lite_is_for() -> None:
    """Log it once in a process."""
    logger.info(
        "The detector lite was trained on a few hundred photographs: it is for a first run, tests "
        "and small studies. For results to compare with published ones take the Visual Genome "
        "detector, --detector.name vg-caffe, once this version of vlray lists it."
    )
