"""Convert images in any of Pillow's pixel modes to 8-bit BGR."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from PIL import Image, ImageCms

_CONVERTIBLE = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"))


def to_bgr(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Convert an image in any pixel mode to BGR, dropping transparency.

    Returns:
        BGR pixels, C-contiguous and writable.

    Raises:
        ValueError: The image has no pixels, or its pixel mode is not supported.
    """
    if not image.width or not image.height:
        raise ValueError("the image has no pixels")
    mode = image.mode
    if mode.startswith("I;16"):
        # Keep the upper byte, as Pillow and libpng do for 16-bit colour images.
        return _grey(np.asarray(image).astype(np.uint16) >> 8)
    if mode == "I" and image.format in ("PNG", "PPM"):
        return _grey(np.clip(np.asarray(image), 0, 65535) >> 8)
    if mode in ("I", "F"):
        return _grey(_stretch(np.asarray(image, np.float64)))
    if mode in ("La", "RGBa"):  # colours premultiplied by alpha
        image = image.convert("LA" if mode == "La" else "RGBA")
    elif mode == "LAB":
        image = _lab_to_srgb().apply(image)
    elif mode not in _CONVERTIBLE:
        raise ValueError(f"pixel mode {mode} is not supported")
    rgb = image.convert("RGB")
    data = rgb.tobytes("raw", "BGR")
    return np.frombuffer(data, np.uint8).reshape(rgb.height, rgb.width, 3).copy()


def _grey(values: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    grey: np.ndarray = values.astype(np.uint8)[:, :, None]
    return grey.repeat(3, axis=2)


def _stretch(values: Float64[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Scale values linearly to 0..255, by their finite range; if all are equal, only clip them."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros_like(values)
    low, high = values[finite].min(), values[finite].max()
    values = np.clip(np.where(np.isnan(values), low, values), low, high)  # clips infinities, too
    scaled = np.clip(values, 0, 255) if low == high else (values - low) * (255 / (high - low))
    return np.rint(scaled)  # type: ignore[no-any-return] # numpy declares Any


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
