"""First stage: read and decode image files, in Ray tasks on CPUs."""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.cluster.expendable import ChildEndedError, available
from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.cluster.worker_logs import log_to_stderr
from vlray.config.detector import DetectorSection
from vlray.detect.protocol import Resize
from vlray.images.decode import ImageError
from vlray.images.sources.entry import split_member
from vlray.images.sources.handles import look_again
from vlray.images.sources.members import read_member
from vlray.regions.user_boxes import describe_invalid_box
from vlray.settings.environment import EnvironmentSection
from vlray.storage import files, fingerprint
from vlray.stream.block import DECODED, pack
from vlray.stream.decoder import Decoder, SeparateDecoder

if TYPE_CHECKING:
    import ray

BYTES_PER_PIXEL = 16  # of the largest file to read: four channels of 32 bits
PROGRESS_S = 5.0  # between two reports of progress inside a shard

log = logging.getLogger("vlray.stream")


class StorageError(OSError):
    """Raised when object storage still does not respond after several attempts."""


@dataclass(frozen=True)
class DecodeShard:
    """Read, decode and resize the images of one shard.

    Images are resized here and not in the detector's actor, because resizing needs CPUs.
    Resizing here also limits the size of decoded images to that of the detector's input.

    An image may end the task: by a crash in native code, by the time limit, or because the system
    runs out of memory. Ray then repeats the task. After `DEATHS` such deaths, images are decoded in
    a child process, so that the image which ends the child is found and fails alone.

    Attributes:
        plan: The whole plan, or a reference to it in the object store, which each node fetches
            once. An optional column ``boxes`` holds user boxes; if it exists, images without boxes
            fail.
        images_root: Base of the plan's relative paths.
        max_pixels: Limit on height x width; larger images fail, as possible decompression bombs.
        resize: The detector's resizing, or the detector whose class constructs it; None: keep the
            original size.
        env: Log level and format; None: in the driver, whose logging stays as it is.
        journal: Journal of the run on Ray, which is told that a slow shard makes progress.
        image_timeout: Time limit for decoding one image, seconds; in Ray's tasks and in child
            processes only.
        image_memory_gb: Memory limit of a child process for one image, GiB. 0: half of the free
            memory.
        is_separate: Whether images are always decoded in a child process.
    """

    plan: pa.Table | ray.ObjectRef
    images_root: str
    max_pixels: int
    resize: Resize | DetectorSection | None
    env: EnvironmentSection | None = None
    journal: ClusterJournal | None = None
    image_timeout: float = 600.0
    image_memory_gb: float = 0.0
    is_separate: bool = False

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the decoded images of one shard, packed."""
        if self.env is not None:
            log_to_stderr(self.env)
        shard, start, count = (row[name][0].as_py() for name in ("shard", "start", "count"))
        images = self._images().slice(start, count).to_pylist()
        fs, root = files.resolve(self.images_root)
        look_again()
        journal = self.journal or Journal()
        work = f"decode shard {shard}"
        rows, reported = [], time.monotonic()
        with contextlib.closing(self._decoder(shard, journal.begin(work))) as decoder:
            for image in images:
                rows.append(self._row(image, fs, root, decoder))
                if time.monotonic() - reported > PROGRESS_S:
                    journal.progress()
                    reported = time.monotonic()
        journal.end(work)
        return pack(shard, images=pa.Table.from_pylist(rows, schema=DECODED))

    def _decoder(self, shard: int, deaths: int) -> Decoder | SeparateDecoder:
        """Return the decoder in this process, or in a child process after several deaths."""
        seconds = self.image_timeout
        if not self.is_separate and deaths < DEATHS:
            limit = None if self.journal is None else seconds
            return Decoder(self.max_pixels, self.resize, limit)
        if deaths:
            log.warning(
                "shard %d: the process that decodes its images ended %d times; its images are now "
                "decoded in a process of their own",
                shard,
                deaths,
            )
        return SeparateDecoder(
            self.max_pixels, self.resize, self.journal or Journal(), seconds, self.image_memory_gb
        )

    def _images(self) -> pa.Table:
        if isinstance(self.plan, pa.Table):
            return self.plan
        import ray

        return ray.get(self.plan)

    def _max_bytes(self) -> int:
        """Return the size of the largest file to read."""
        free = available()
        most = self.max_pixels * BYTES_PER_PIXEL
        return min(most, free // 2) if free else most

    def _row(
        self, image: dict[str, Any], fs: Any, root: str, decoder: Decoder | SeparateDecoder
    ) -> dict[str, Any]:
        row = {name: image[name] for name in ("image_id", "path", "split")}
        if "boxes" in image:
            row["boxes"] = image["boxes"]
            if row["boxes"] is None:
                return row | _boxes_error("the boxes file has no boxes for this image")
        try:
            data = _read(image["path"], image.get("place"), fs, root, self._max_bytes())
            row["digest"] = fingerprint.digest(data)
            height, width, pixels = decoder(data, image["image_id"])
        except ImageError as error:
            return row | {"stage": "decode", "error": "ImageError", "reason": error.reason}
        except ChildEndedError as error:
            return row | {"stage": "process", "error": error.kind, "reason": str(error)}
        except StorageError:
            raise
        except OSError as error:  # the file is missing or not readable
            return row | {
                "stage": "decode",
                "error": type(error).__name__,
                "reason": str(error),
            }
        # Boxes are in pixels of the original image, not of the resized one.
        if "boxes" in row:
            boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
            if problem := describe_invalid_box(boxes, height, width):
                return row | _boxes_error(problem)
        return row | {
            "image_height": height,
            "image_width": width,
            "pixels": pixels.tobytes(),
            "shape": list(pixels.shape),
            "dtype": str(pixels.dtype),
        }


def _boxes_error(reason: str) -> dict[str, str]:
    return {"stage": "boxes", "error": "ValueError", "reason": reason}


def _check_file(path: str, max_bytes: int) -> None:
    """Refuse a local file whose reading would never end or would not fit into the memory.

    Raises:
        ImageError: The file is a device, a pipe or a socket, or it is too large.
        OSError: The file is missing, or a link to itself.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - the path of each image
    except FileNotFoundError:
        status = os.stat(files.restore_bytes(path))  # noqa: PTH116 - likewise
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ImageError("not a file but a device, a pipe or a socket")
    if status.st_size > max_bytes:
        raise ImageError(
            f"the file has {status.st_size:,} bytes, more than the limit of {max_bytes:,} bytes, "
            f"that is {BYTES_PER_PIXEL} bytes for each pixel of --images.max-pixels and at most "
            "half of the free memory"
        )


def _read(path: str, place: str | None, fs: pafs.FileSystem, root: str, max_bytes: int) -> bytes:
    """Read one image of a listing; paths from a list file may be absolute or URIs."""
    if files.is_uri(path) or path.startswith("/"):
        fs, full = files.resolve(path)
    else:
        full = posixpath.normpath(files.join(root, path))
    if place is not None:
        archive, _ = split_member(full)
    elif files.is_local(fs):
        _check_file(full, max_bytes)
    for pause in (1.0, 5.0, 20.0, None):  # seconds; most network outages are short
        try:
            if place is not None:
                return read_member(fs, archive, place, max_bytes)
            return files.read_bytes(fs, full)
        except OSError as error:
            # A list may name many web servers, some of which are gone; requests were repeated.
            is_one_server = place is not None or not files.is_web(fs)
            if isinstance(error, FileNotFoundError) or files.is_local(fs) or not is_one_server:
                raise
            if pause is None:
                # The image is not at fault: end the run, so that the next run resumes here.
                raise StorageError(*error.args) from error
            log.warning("%s; retrying in %g s", error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")
