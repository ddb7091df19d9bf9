"""Turn files into pixels: any common format in, three channels of 8 bits out."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from vlray.images.pixels import to_bgr
from vlray.storage import files

MAX_PIXELS = 178_956_970
"""Height x width from which on Pillow by itself takes an image for a decompression bomb."""

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's other formats are left out: EPS would run Ghostscript, and most are no photographs."""

_MAGIC = (  # where, what, whose
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"BM", "BMP"),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """A file is not an image, is damaged, or is too large.

    Attributes:
        reason: One line for the failures table.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the first frame of an image file.

    EXIF orientation is applied; colour profiles are not, and transparency is dropped, as
    ``cv2.imread`` and Detectron2's ``read_image`` do: what a transparent pixel hides becomes
    visible. 16 bits become 8 by their upper half. Grey of 32 bits or of floats, which has no
    scale of its own, is stretched from its least to its greatest value.

    The pixels equal those of ``cv2.imread``, with which the features of LXMERT and its kin were
    made: measured with OpenCV 5.0.0 on 130 photographs of COCO, and on baseline and progressive
    JPEG of every subsampling, PNG of all kinds, GIF, BMP, WebP, AVIF and JPEG 2000. They differ
    by 1 for CMYK, and for TIFF with transparency.

    Args:
        data: The whole file.
        max_pixels: A larger image (height x width) is refused before any pixel is decoded.

    Returns:
        The image as BGR, C-contiguous and writable.

    Raises:
        ImageError: The file is not an image, is cut off or damaged, or has too many pixels.
    """
    if not len(data):
        raise ImageError("the file is empty (0 bytes)")
    name = ""
    try:
        with _PILLOW, Image.open(io.BytesIO(data), formats=_formats()) as image:
            name = f"{image.format} of {image.width}x{image.height} pixels: "
            _check_size(image, max_pixels)
            _check_whole(image, data)
            image.load()
            return _upright(to_bgr(image), image)
    except ImageError as error:
        raise ImageError(name + error.reason) from error
    except UnidentifiedImageError as error:
        raise ImageError(_describe_unknown(bytes(data[:64]))) from error
    # Damaged files end in whatever the code that meets the damage raises: OSError, SyntaxError,
    # struct.error, IndexError, zlib.error, MemoryError ...
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        if isinstance(error, MemoryError):
            said = "there is not enough memory to decode it"
        elif not said or not isinstance(error, OSError | SyntaxError | ValueError):
            said = f"it is damaged ({type(error).__name__}: {said})"
        raise ImageError((name or f"{_kind(bytes(data[:64]))}: ") + said) from error


def as_bgr(
    image: str | Path | Image.Image | np.ndarray, *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W 3"]:
    """Take an image in any of the forms that a notebook has.

    Args:
        image: A path or URI of a file; a Pillow image, whose EXIF orientation is applied; or an
            array of uint8: grey (H, W) or (H, W, 1), or **RGB** or RGBA (H, W, 3 or 4), as Pillow
            and Matplotlib give them. Turn what ``cv2.imread`` gives around first:
            ``image[:, :, ::-1]``.
        max_pixels: As for ``decode``; of files only.

    Raises:
        ImageError: The file cannot be decoded.
        OSError: The file cannot be read.
        ValueError: An array of another type or shape.
    """
    if isinstance(image, np.ndarray):
        return _array_as_bgr(image)
    if isinstance(image, Image.Image):
        return _upright(to_bgr(image), image)
    return decode(files.read_bytes(*files.resolve(image)), max_pixels=max_pixels)


def _upright(pixels: UInt8[np.ndarray, "h w 3"], image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Apply the EXIF orientation; where EXIF is damaged, the image stays as it is."""
    try:
        # Pillow has turned a TIFF already, and forgotten its orientation.
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # parsing damaged EXIF may raise anything, and the pixels are still good
        return pixels
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _array_as_bgr(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or coloured) or 0 in array.shape:
        raise ValueError(
            f"an array of {array.dtype} and shape {array.shape} is no image; give uint8 in RGB of "
            "shape (height, width, 3), or grey of shape (height, width)"
        )
    if grey:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, 2::-1])


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"{pixels:,} are more than the limit of {max_pixels:,}; if it is a photograph and "
            "memory allows, raise --images.max-pixels"
        )


def _check_whole(image: Image.Image, data: bytes | memoryview) -> None:
    """Find the damage that Pillow decodes without a word."""
    if image.format == "PNG":
        with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
            again.verify()  # the checksums; an image cannot be loaded after it
    elif image.format in ("JPEG", "MPO") and bytes(data).rfind(b"\xff\xd9") < _scan_start(data):
        # Unfinished downloads leave zeros in reserved space, and libjpeg takes them for pixels.
        raise ImageError("the file is cut off: its end is missing")


def _scan_start(data: bytes | memoryview) -> int:
    """Find where a JPEG's pixels begin; what comes before may hold a whole thumbnail."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return place


def _kind(start: bytes) -> str:
    """Tell the format by the file's first bytes; empty: none that we know."""
    kinds = (kind for place, magic, kind in _MAGIC if start.startswith(magic, place))
    return next(kinds, "")


def _describe_unknown(start: bytes) -> str:
    if kind := _kind(start):
        return f"{kind}: its header is damaged, cut off or of a rare kind"
    text = start.decode("latin-1")[:32]
    plain = text.isascii() and "".join(text.split()).isprintable()
    begins = repr(text) if plain else f"bytes {start[:12].hex(' ')}"
    return f"no image of a format that vlray reads; it begins with {begins}"


def _formats() -> tuple[str, ...]:
    Image.init()  # a second call returns at once
    return tuple(name for name in FORMATS if name in Image.OPEN)


class _PillowSettings:
    """Pillow's process-wide settings while at least one thread is decoding.

    No warnings of Pillow's, no limit but ours, and truncated files refused, whatever another
    library has set. ``warnings.catch_warnings`` alone would mix up the filters of two threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
                Image.MAX_IMAGE_PIXELS = None
                ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._before
                self._warnings.__exit__(kind, error, traceback)


_PILLOW = _PillowSettings()
