"""The detector of one process: in the process itself, or in a child process that may end."""

from __future__ import annotations

import sys

import numpy as np

from vlray.cluster.expendable import ChildEndedError, ChildError, Expendable
from vlray.cluster.gpus import assigned_gpus
from vlray.cluster.worker_logs import log_to_stderr
from vlray.config.detector import DetectorSection
from vlray.detect.load import load_detector
from vlray.detect.modes import info_of, regions_of
from vlray.detect.protocol import DetectorInfo
from vlray.regions.batch import RegionBatch
from vlray.settings.environment import EnvironmentSection
from vlray.stream.device import DeviceError, check_device, release
from vlray.stream.rows import ImageRow

__all__ = ["ChildEndedError", "ChildError", "LoadedDetector", "SeparateDetector", "with_device"]


def with_device(options: DetectorSection) -> DetectorSection:
    """Replace ``device=auto`` by the device that Ray assigned to this process, if it is a worker.

    A child process of the worker does not know what Ray assigned.
    """
    if options.device != "auto" or (assigned := assigned_gpus()) is None:
        return options
    return options.model_copy(update={"device": "cuda" if assigned else "cpu"})


class LoadedDetector:
    """A loaded detector with its threads and its batch size."""

    def __init__(
        self, options: DetectorSection, threads: int, env: EnvironmentSection | None
    ) -> None:
        """Load the detector; see `load_detector` for the errors."""
        if env is not None:
            log_to_stderr(env)
        self._detector = load_detector(options)
        self._options = options
        self.info: DetectorInfo = info_of(self._detector, options)
        # Do not import torch here: it takes seconds, and a user's detector may not need it.
        self.batch_size = options.batch_size or 1
        if (torch := sys.modules.get("torch")) is not None:
            from vlray.detect.device import batch_size_of

            torch.set_num_threads(threads)
            self.batch_size = batch_size_of(options)

    def __call__(self, batch: list[ImageRow]) -> RegionBatch:
        """Detect regions in images of one size: see `ImageRow`.

        Raises:
            DeviceError: The detector raised because the GPU can no longer be used.
        """
        try:
            return self._detect(batch)
        except Exception as error:
            release(error)
            check_device()
            raise

    def _detect(self, batch: list[ImageRow]) -> RegionBatch:
        image_hw = np.array(
            [(row["image_height"], row["image_width"]) for row in batch], np.int32
        ).reshape(-1, 2)
        boxes = [row["boxes"] for row in batch]
        return regions_of(
            self._detector,
            self._options,
            [row["image"] for row in batch],
            image_hw,
            None if boxes[0] is None else boxes,  # all images of a run have user boxes, or none has
        )

    def close(self) -> None:
        """Do nothing: the detector ends with its process."""


class SeparateDetector:
    """A `LoadedDetector` in a child process. An image that ends the child raises an error here."""

    def __init__(
        self,
        options: DetectorSection,
        threads: int,
        env: EnvironmentSection | None,
        *,
        seconds: float,
        memory_gib: float,
    ) -> None:
        """Load the detector in a child process; see `Expendable` for the limits.

        Raises:
            ChildError: The detector cannot be loaded.
        """
        self._child = Expendable(
            LoadedDetector, options, threads, env, seconds=seconds, memory_gib=memory_gib
        )
        self.info: DetectorInfo = self._child.call("info")
        self.batch_size: int = self._child.call("batch_size")

    def __call__(self, batch: list[ImageRow]) -> RegionBatch:
        """Detect regions in images of one size.

        Raises:
            ChildEndedError: The child crashed, exceeded its time or memory, or lost its GPU.
            ChildError: The detector raised.
        """
        names = ("image", "image_height", "image_width", "boxes")
        rows = [{name: row[name] for name in names} for row in batch]
        try:
            regions: RegionBatch = self._child.call("__call__", rows, units=len(batch))
        except ChildError as error:
            if error.kind != DeviceError.__name__:
                raise
            self._child.close()  # the next call starts a child that can use the GPU again
            raise ChildEndedError(str(error)) from error
        return regions

    def close(self) -> None:
        """Kill the child."""
        self._child.close()
