"""The decoder of one process: in the process itself, or in a child process that may end."""

from __future__ import annotations

import contextlib

import numpy as np

from vlray.cluster.expendable import ChildEndedError, ChildError, Expendable
from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.config.detector import DetectorSection
from vlray.detect.load import resize_of
from vlray.detect.protocol import Resize
from vlray.images.decode import ImageError, decode
from vlray.stream.limits import time_limit

Decoded = tuple[int, int, np.ndarray]
"""Height and width of the original image, and the pixels for the detector, (H, W, C)."""


class Decoder:
    """Decodes and resizes images in this process, in any number of threads."""

    def __init__(
        self,
        max_pixels: int,
        resize: Resize | DetectorSection | None,
        seconds: float | None = None,
    ) -> None:
        """Construct the resizing.

        Args:
            max_pixels: Limit on height x width.
            resize: The detector's resizing, or the detector whose class constructs it; None: keep
                the original size.
            seconds: Time after which this process ends itself; None: no limit.
        """
        self._max_pixels = max_pixels
        self._resize = resize_of(resize) if isinstance(resize, DetectorSection) else resize
        self._seconds = seconds

    def __call__(self, data: bytes, image_id: str) -> Decoded:
        """Decode the content of a file.

        Raises:
            ImageError: The file is not an image, or it is damaged.
        """
        with contextlib.nullcontext() if self._seconds is None else time_limit(self._seconds):
            original = decode(data, max_pixels=self._max_pixels)
            pixels = original if self._resize is None else self._resize(original)
            # Without a copy where possible; Pillow's arrays are read-only.
            return *original.shape[:2], np.require(pixels, requirements=["C", "W"])

    def close(self) -> None:
        """Do nothing: the decoder ends with its process."""


class SeparateDecoder:
    """A `Decoder` in a child process.

    If an image crashes the child, or makes it exceed its limits, the parent process only gets an
    exception.
    """

    def __init__(
        self,
        max_pixels: int,
        resize: Resize | DetectorSection | None,
        journal: Journal | ClusterJournal,
        seconds: float,
        memory_gib: float,
    ) -> None:
        """Set the limits of a child process; see `Expendable`."""
        self._journal = journal
        self._child = Expendable(
            Decoder, max_pixels, resize, seconds=seconds, memory_gib=memory_gib
        )

    def __call__(self, data: bytes, image_id: str) -> Decoded:
        """Decode the content of a file.

        Raises:
            ImageError: The file is not an image, or it is damaged.
            ChildEndedError: The child crashed, or exceeded its time or memory; or the process
                around it ended each time that this image was decoded.
        """
        work = f"decode {image_id}"
        deaths = self._journal.begin(work)
        try:
            if deaths >= DEATHS:
                raise ChildEndedError(
                    f"the process that decodes it, and the one around it, ended {deaths} times"
                )
            decoded: Decoded = self._child.call("__call__", data, image_id)
            return decoded
        except ChildError as error:
            if error.kind == ImageError.__name__:
                raise ImageError(str(error)) from error
            raise
        finally:
            self._journal.end(work)

    def close(self) -> None:
        """Kill the child."""
        self._child.close()
