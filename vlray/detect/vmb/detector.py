"""maskrcnn-benchmark's Faster R-CNNs with a feature pyramid as detectors, with MMF's rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from vlray.config.detector import DetectorSection
from vlray.detect.d2.files import weights_of
from vlray.detect.device import open_device
from vlray.detect.protocol import DetectorInfo, Resize
from vlray.detect.vmb.config import MAX_SIZE, MIN_SIZE, read_layout
from vlray.detect.weights.files import locate, sha256
from vlray.images.resize import ResizeLikeCaffe
from vlray.regions.batch import RegionBatch
from vlray.regions.vocabulary import visual_genome_objects


class Vmb:
    """Detector of MMF's fc6 features, for its X-101 and X-152 and networks of that kind.

    ``options.name`` is the YAML file that belongs to the checkpoint ``options.weights``.
    ``features=pooled`` is ``fc6``, as in the published features. A region is the pooled proposal;
    ``options.options["obj_names"]`` lists other class names than Visual Genome's.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> Resize:
        """Return MMF's resize function; the configuration's input size has no effect there."""
        return _resize(options)

    def __init__(self, options: DetectorSection) -> None:
        """Build the network and load its weights.

        Raises:
            ValueError: The configuration, the weights or an option cannot be used.
        """
        from vlray.detect.vmb.regions import VmbRegions
        from vlray.detect.vmb.weights import load_vmb

        if unknown := options.options.keys() - {"obj_names"}:
            raise ValueError(
                f"unknown detector.options: {', '.join(sorted(unknown))}; supported is obj_names"
            )
        layout = read_layout(options.name)
        weights = locate(weights_of(options))
        network = load_vmb(layout, weights).to(open_device(options))
        self._regions = VmbRegions(network, _resize(options), options)
        self.info = DetectorInfo(
            name=Path(options.name).stem,
            feature_dim=layout.fc_dim,
            obj_names=_obj_names(layout.num_classes - 1, options),
            weights_sha256=sha256(weights),
            conventions=layout.described(),
        )

    def __call__(
        self, images: Sequence[Float32[np.ndarray, "h w 3"]], image_hw: Int32[np.ndarray, "N 2"]
    ) -> RegionBatch:
        """Detect the regions in BGR images of one size."""
        return self._regions(images, image_hw)

    def pool_boxes(
        self,
        images: Sequence[Float32[np.ndarray, "h w 3"]],
        image_hw: Int32[np.ndarray, "N 2"],
        boxes: Sequence[Float32[np.ndarray, "R 4"]],
    ) -> RegionBatch:
        """Pool the user's boxes, in pixels of the original images."""
        return self._regions.pool_boxes(images, image_hw, boxes)


def _resize(options: DetectorSection) -> ResizeLikeCaffe:
    return ResizeLikeCaffe(options.min_size or MIN_SIZE, options.max_size or MAX_SIZE)


def _obj_names(count: int, options: DetectorSection) -> tuple[str, ...]:
    """Return the class names in the options, else Visual Genome's, else numbered names.

    Raises:
        ValueError: The options have the wrong number of names.
    """
    names = tuple(map(str, options.options.get("obj_names", ())))
    if names and len(names) != count:
        raise ValueError(
            f"detector.options.obj_names lists {len(names)} names, but {options.name} has {count} "
            "classes without the background; list one name for each"
        )
    if not names and len(visual_genome_objects()) == count:
        return visual_genome_objects()
    return names or tuple(f"class {index}" for index in range(count))
