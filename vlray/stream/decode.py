"""First stage: read and decode image files, in threads."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import time
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.cluster.expendable import ChildEndedError, available
from vlray.cluster.journal import ClusterJournal, Journal
from vlray.config.detector import DetectorSection
from vlray.detect.protocol import Resize
from vlray.images.decode import ImageError
from vlray.images.sources.entry import split_member
from vlray.images.sources.handles import look_again
from vlray.images.sources.members import read_member
from vlray.regions.user_boxes import describe_invalid_box
from vlray.storage import files, fingerprint
from vlray.stream.decoder import Decoder, SeparateDecoder
from vlray.stream.rows import ImageRow, ShardTask
from vlray.stream.turns import Prefetch

if TYPE_CHECKING:
    import ray

BYTES_PER_PIXEL = 16  # of the largest file to read: four channels of 32 bits
PROGRESS_S = 5.0  # between two reports of progress inside a shard

log = logging.getLogger("vlray.stream")


class StorageError(OSError):
    """Raised when object storage still does not respond after several attempts."""


@dataclass(frozen=True)
class DecodeShard:
    """Read, decode and resize the images of a shard, in threads of the process that detects.

    Images are resized here, because that limits the memory of decoded images to the detector's
    input, and because it needs CPUs.

    Attributes:
        plan: The whole plan, or a reference to it in the object store, which each node fetches
            once. An optional column ``boxes`` holds user boxes; if it exists, images without boxes
            fail.
        images_root: Base of the plan's relative paths.
        max_pixels: Limit on height x width; larger images fail, as possible decompression bombs.
        resize: The detector's resizing, or the detector whose class constructs it; None: keep the
            original size.
        threads: Number of images to decode at once.
        image_timeout: Time limit for decoding one image, seconds; in Ray's actors and in child
            processes only.
        image_memory_gb: Memory limit of a child process for one image, GiB. 0: half of the free
            memory.
    """

    plan: pa.Table | ray.ObjectRef
    images_root: str
    max_pixels: int
    resize: Resize | DetectorSection | None
    threads: int = 1
    image_timeout: float = 600.0
    image_memory_gb: float = 0.0

    def __call__(
        self,
        task: ShardTask,
        decoder: Decoder | SeparateDecoder,
        pool: Executor,
        prefetch: Prefetch,
        journal: Journal | ClusterJournal,
    ) -> list[ImageRow]:
        """Return the images of one shard, in the order of the plan.

        Args:
            task: The shard.
            decoder: Result of `decoder`; a child process decodes one image at a time.
            pool: Its threads decode.
            prefetch: Limits the decoded images in this process, to which these are added.
            journal: Journal of the run, which is told that a slow shard makes progress.

        Raises:
            StorageError: Object storage does not respond.
            CancelledError: ``prefetch`` was closed.
        """
        images = self._images().slice(task.start, task.images).to_pylist()
        fs, root = files.resolve(self.images_root)
        look_again()
        threads = self.threads if isinstance(decoder, Decoder) else 1
        pending: deque[Future[ImageRow]] = deque()
        rows: list[ImageRow] = []
        held, reported = 0, time.monotonic()

        def collect() -> None:
            nonlocal held, reported
            rows.append(row := pending.popleft().result())
            size = size_of(row)
            held += size
            prefetch.add(size)
            if time.monotonic() - reported > PROGRESS_S:
                journal.progress()
                reported = time.monotonic()

        try:
            for image in images:
                if len(pending) == threads:
                    collect()
                prefetch.wait(held)
                pending.append(pool.submit(self._row, image, fs, root, decoder))
            while pending:
                collect()
        except BaseException:
            prefetch.release(held)
            raise
        return rows

    def decoder(
        self, journal: Journal | ClusterJournal, *, separate: bool, limited: bool
    ) -> Decoder | SeparateDecoder:
        """Return a decoder in this process, or one in a child process.

        Args:
            journal: Journal of the run.
            separate: Whether to decode in a child process.
            limited: Whether the time limit ends this process.
        """
        seconds = self.image_timeout
        if not separate:
            return Decoder(self.max_pixels, self.resize, seconds if limited else None)
        return SeparateDecoder(self.max_pixels, self.resize, journal, seconds, self.image_memory_gb)

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
    ) -> ImageRow:
        row = {name: image[name] for name in ("image_id", "path", "split")}
        row |= {"boxes": None, "image": None}
        if "boxes" in image:
            if image["boxes"] is None:
                return row | _boxes_error("the boxes file has no boxes for this image")
            row["boxes"] = np.array(image["boxes"], np.float32).reshape(-1, 4)
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
        boxes = row["boxes"]
        if boxes is not None and (problem := describe_invalid_box(boxes, height, width)):
            return row | _boxes_error(problem)
        return row | {"image_height": height, "image_width": width, "image": pixels}


def size_of(row: ImageRow) -> int:
    """Return the bytes of an image's pixels."""
    return 0 if row["image"] is None else int(row["image"].nbytes)


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
