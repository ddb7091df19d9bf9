"""Decode images in any common file format into 8-bit BGR pixels."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from vlray.images.pixels import to_bgr
from vlray.storage import files

MAX_PIXELS = 178_956_970
"""Default limit on height x width, in pixels; above it, Pillow raises DecompressionBombError."""

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats that vlray decodes. EPS is excluded because it would run Ghostscript; Pillow's other
formats are rare."""

_MAGIC = (  # offset, bytes at that offset, format
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

_UNREAD = (  # offset, bytes at that offset, format that vlray does not read
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"8BPS", "PSD"),
    (8, b"CR\2", "a camera's RAW format"),
    (4, b"ftypcrx", "a camera's RAW format"),
    (0, b"FUJIFILMCCD-RAW", "a camera's RAW format"),
    (0, b"IIRO", "a camera's RAW format"),
    (0, b"IIU\0", "a camera's RAW format"),
)

CONVERT = "convert them to JPEG or PNG first, such as with ImageMagick: magick FILE FILE.png"

_TRANSPOSES = {  # EXIF orientation: transpose that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """Raised if a file is not an image, is damaged, or is too large.

    Attributes:
        reason: One-line description for the failures table.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the first frame of an image file.

    EXIF orientation is applied. Colour profiles are ignored and transparency is dropped, as in
    ``cv2.imread`` and Detectron2's ``read_image``, so the colours of transparent pixels become
    visible. 16-bit values are reduced to their upper byte. 32-bit and float grey values have no
    fixed scale, so their range is stretched to 0..255.

    The pixels equal those of ``cv2.imread``, which produced the features of LXMERT and similar
    models. Verified with OpenCV 5.0.0 on 130 photographs of COCO, on baseline and progressive
    JPEG with every subsampling, and on PNG, GIF, BMP, WebP, AVIF and JPEG 2000. CMYK images, and
    TIFF images with transparency, differ by at most 1.

    Args:
        data: Content of the image file.
        max_pixels: Limit on height x width; a larger image is rejected before decoding.

    Returns:
        The image as BGR, C-contiguous and writable.

    Raises:
        ImageError: The file is not an image, is truncated or damaged, or has too many pixels.
    """
    if not len(data):
        raise ImageError("the file is empty (0 bytes)")
    name = ""
    start = bytes(data[:64])
    if unread := next((kind for at, magic, kind in _UNREAD if start.startswith(magic, at)), ""):
        raise ImageError(f"{unread}: vlray does not read such files; {CONVERT}")
    try:
        data = _without_big_texts(data)
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
    # A damaged file may raise anything: OSError, SyntaxError, struct.error, IndexError,
    # zlib.error, MemoryError ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, MemoryError):
            reason = "not enough memory to decode it"
        elif not reason or not isinstance(error, OSError | SyntaxError | ValueError):
            reason = f"damaged file ({type(error).__name__}: {reason})"
        raise ImageError((name or f"{_kind(bytes(data[:64]))}: ") + reason) from error


def as_bgr(
    image: str | Path | Image.Image | np.ndarray, *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file, or convert a Pillow image or an array, to BGR pixels.

    Args:
        image: The path or URI of a file; a Pillow image, whose EXIF orientation is applied; or a
            uint8 array: grey (H, W) or (H, W, 1), or **RGB** or RGBA (H, W, 3 or 4), as in Pillow
            and Matplotlib. Reverse the channels of a ``cv2.imread`` image first:
            ``image[:, :, ::-1]``.
        max_pixels: Limit on height x width, as in ``decode``; applies to files only.

    Raises:
        ImageError: The file cannot be decoded.
        OSError: The file cannot be read.
        ValueError: The array has the wrong dtype or shape, or the Pillow image is empty or has an
            unsupported pixel mode.
    """
    if isinstance(image, np.ndarray):
        return _array_as_bgr(image)
    if isinstance(image, Image.Image):
        return _upright(to_bgr(image), image)
    return decode(files.read_bytes(*files.resolve(image)), max_pixels=max_pixels)


def _upright(pixels: UInt8[np.ndarray, "h w 3"], image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Apply the EXIF orientation of ``image`` to ``pixels``; ignore damaged EXIF data."""
    try:
        # Pillow has already transposed a TIFF and removed the orientation tag.
        transpose = _TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data may raise anything; the pixels are still good
        return pixels
    return pixels if transpose is None else np.array(Image.fromarray(pixels).transpose(transpose))


def _array_as_bgr(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or coloured) or 0 in array.shape:
        raise ValueError(
            f"an array of dtype {array.dtype} and shape {array.shape} is not an image; pass uint8 "
            "RGB of shape (height, width, 3), or grey of shape (height, width)"
        )
    if grey:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, 2::-1])


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            f"{pixels:,} pixels exceed the limit of {max_pixels:,}; if it is a photograph and "
            "memory allows, raise --images.max-pixels"
        )


def _check_whole(image: Image.Image, data: bytes | memoryview) -> None:
    """Detect damage that Pillow would decode without an error.

    Raises:
        ImageError: A JPEG is truncated.
        SyntaxError: A PNG has a wrong checksum.
    """
    if image.format == "PNG":
        with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
            again.verify()  # checks the checksums; the image cannot be loaded afterwards
    elif image.format in ("JPEG", "MPO") and bytes(data).rfind(b"\xff\xd9") < _scan_start(data):
        # An unfinished download may end in zeros, which libjpeg decodes without an error.
        raise ImageError("the file is cut off: its end is missing")


def _without_big_texts(data: bytes | memoryview) -> bytes | memoryview:
    """Return a PNG without its texts and colour profile if they exceed Pillow's limits.

    Pillow refuses such files. Other files, and damaged ones, are returned unchanged.
    """
    if bytes(data[:4]) != b"\x89PNG":
        return data
    kept, sizes, offset = [bytes(data[:8])], 0, 8
    while offset + 12 <= len(data):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4])
        kind = bytes(data[offset + 4 : offset + 8])
        if kind in _TEXTS:
            # Compressed texts expand by a factor of at most 1,032.
            factor = 1 if kind == b"tEXt" else 1_032
            sizes += (end - offset) * factor
        else:
            kept.append(bytes(data[offset:end]))
        offset = end
    if sizes <= PngImagePlugin.MAX_TEXT_CHUNK:
        return data
    try:
        with _PILLOW, Image.open(io.BytesIO(data), formats=("PNG",)):
            return data
    except ValueError:
        return b"".join(kept)
    except Exception:  # `decode` describes it
        return data


_TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}


def _scan_start(data: bytes | memoryview) -> int:
    """Return the offset of a JPEG's pixel data.

    The segments before that offset may contain a thumbnail: a complete JPEG with an end marker.
    """
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != 0xDA:
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    return offset


def _kind(start: bytes) -> str:
    """Return the format that the first bytes of a file indicate; empty if it is unknown."""
    kinds = (kind for offset, magic, kind in _MAGIC if start.startswith(magic, offset))
    return next(kinds, "")


def _describe_unknown(start: bytes) -> str:
    if kind := _kind(start):
        return f"{kind}: the header is damaged, cut off or of a rare kind"
    text = start.decode("latin-1")[:32]
    plain = text.isascii() and "".join(text.split()).isprintable()
    begins = repr(text) if plain else f"bytes {start[:12].hex(' ')}"
    return f"not an image of a format that vlray reads; the file begins with {begins}"


def _formats() -> tuple[str, ...]:
    Image.init()  # later calls return at once
    return tuple(name for name in FORMATS if name in Image.OPEN)


class _PillowSettings:
    """Context manager that overrides Pillow's global settings while any thread is decoding.

    It silences Pillow's warnings, disables Pillow's own size limit, and rejects truncated files,
    whatever another library has set. The first thread to enter saves the settings, and the last
    to leave restores them, because ``warnings.catch_warnings`` alone is not thread-safe.
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
