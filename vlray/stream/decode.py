"""First stage: read and decode image files, in Ray tasks on CPUs."""

from __future__ import annotations

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

from vlray.cluster.expendable import available
from vlray.cluster.journal import ClusterJournal
from vlray.cluster.worker_logs import log_to_stderr
from vlray.detect.protocol import Resize
from vlray.images.decode import ImageError, decode
from vlray.images.sources.entry import split_member
from vlray.images.sources.members import read_member
from vlray.regions.user_boxes import describe_invalid_box
from vlray.settings.environment import EnvironmentSection
from vlray.storage import files, fingerprint
from vlray.stream.block import DECODED, pack

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

    Attributes:
        plan: The whole plan, or a reference to it in the object store, which each node fetches
            once. An optional column ``boxes`` holds user boxes; if it exists, images without boxes
            fail.
        images_root: Base of the plan's relative paths.
        max_pixels: Limit on height x width; larger images fail, as possible decompression bombs.
        resize: The detector's resizing; None: keep the original size.
        env: Log level and format; None: in the driver, whose logging stays as it is.
        journal: Journal of the run on Ray, which learns that a slow shard proceeds.
    """

    plan: pa.Table | ray.ObjectRef
    images_root: str
    max_pixels: int
    resize: Resize | None
    env: EnvironmentSection | None = None
    journal: ClusterJournal | None = None

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the decoded images of one shard, packed."""
        if self.env is not None:
            log_to_stderr(self.env)
        shard, start, count = (row[name][0].as_py() for name in ("shard", "start", "count"))
        images = self._images().slice(start, count).to_pylist()
        fs, root = files.resolve(self.images_root)
        rows, reported = [], time.monotonic()
        for image in images:
            rows.append(self._row(image, fs, root))
            if self.journal is not None and time.monotonic() - reported > PROGRESS_S:
                self.journal.progress()
                reported = time.monotonic()
        return pack(shard, images=pa.Table.from_pylist(rows, schema=DECODED))

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

    def _row(self, image: dict[str, Any], fs: Any, root: str) -> dict[str, Any]:
        row = {name: image[name] for name in ("image_id", "path", "split")}
        if "boxes" in image:
            row["boxes"] = image["boxes"]
            if row["boxes"] is None:
                return row | _boxes_error("the boxes file has no boxes for this image")
        try:
            data = _read(image["path"], image.get("place"), fs, root, self._max_bytes())
            row["digest"] = fingerprint.digest(data)
            original = decode(data, max_pixels=self.max_pixels)
            pixels = original if self.resize is None else self.resize(original)
        except ImageError as error:
            return row | {"stage": "decode", "error": "ImageError", "reason": error.reason}
        except StorageError:
            raise
        except OSError as error:  # the file is missing or not readable
            return row | {
                "stage": "decode",
                "error": type(error).__name__,
                "reason": str(error),
            }
        # Boxes are in pixels of the original image, not of the resized one.
        height, width = original.shape[:2]
        if "boxes" in row:
            boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
            if problem := describe_invalid_box(boxes, height, width):
                return row | _boxes_error(problem)
        return row | {
            "image_height": height,
            "image_width": width,
            "pixels": np.ascontiguousarray(pixels).tobytes(),
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
        status = os.stat(files.restore_bytes(path))  # noqa: PTH116
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
            if isinstance(error, FileNotFoundError) or files.is_local(fs):
                raise
            if pause is None:
                # The image is not at fault: end the run, so that the next run resumes here.
                raise StorageError(*error.args) from error
            log.warning("%s; retrying in %g s", error, pause)
            time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")
