"""Sizes and boxes: what unit boxes are in, which size an image has, and what tells it.

Shapes: R regions of one image. ``hw`` is always height and width, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlray.formats.flags import Flag, RowError
from vlray.formats.readers.protocol import Found

FRACTION = 1.5
"""Up to here the largest corner of an image's boxes is a fraction, which may leave the image."""

OVERHANG = 1.05
"""Up to here fractions of the image may pass its edge; beyond, they are of something else."""

PIXEL = 1.0
"""Boxes may leave their image by this much: "+1" conventions and rounding."""

Size = tuple[float, float]

_NO_SIZE = "give --images FOLDER (the photographs) or --sizes FILE (id, height, width)"


@dataclass(frozen=True)
class Frame:
    """How the sizes and boxes of a file are to be read, decided once for all of its images.

    Attributes:
        normalized: Boxes are fractions of the image.
        shorter_side: The fractions are of its shorter side, on both axes.
        swapped: The file's size is width before height, where its form has height first.
        resized: Boxes are in pixels of the file's size, where the photograph's is another.
    """

    normalized: bool = False
    shorter_side: bool = False
    swapped: bool = False
    resized: bool = True


@dataclass
class FrameVotes:
    """Counts over the first images what their boxes and photographs say about the frame."""

    images: int = 0
    fractions: int = 0
    beyond: int = 0  # of the fractions' images: those that pass the image's edge by far
    furthest: float = 0.0
    straight: int = 0
    swapped: int = 0
    in_smaller: int = 0  # the boxes fit the smaller one of file's and photograph's size
    in_larger: int = 0
    file_is_larger: int = 0

    def add(self, found: Found, true_hw: Size | None) -> None:
        """Count one image."""
        boxes = np.asarray(found.boxes, np.float64)
        if boxes.shape[1:] != (4,) or not len(boxes) or not np.isfinite(boxes).all():
            return
        self.images += 1
        if boxes.max() <= FRACTION or "normalized-boxes" in found.remarks:
            self.fractions += 1
            self.beyond += boxes.max() > OVERHANG
            self.furthest = max(self.furthest, float(boxes.max()))
            return
        hw = known(found.image_hw)
        if hw is None or "resized-size" in found.remarks:
            return
        if true_hw is not None:
            straight = near(hw, true_hw)
            swapped = near(hw[::-1], true_hw) and fits(boxes, true_hw)
        else:
            straight, swapped = fits(boxes, hw), fits(boxes, hw[::-1])
        self.straight += straight and not swapped
        self.swapped += swapped and not straight
        if true_hw is not None and not straight and not swapped and one_shape(hw, true_hw):
            smaller = min(hw, true_hw)
            self.in_smaller += fits(boxes, smaller)
            self.in_larger += not fits(boxes, smaller)
            self.file_is_larger += hw > true_hw

    def frame(self, boxes: str) -> Frame:
        """Decide; ``boxes`` is the option of that name.

        Raises:
            ValueError: Boxes are fractions, but not of the image.
        """
        normalized = self.images > 0 and self.fractions >= 0.9 * self.images
        normalized = normalized if boxes == "auto" else boxes != "pixels"
        if normalized and boxes != "shorter-side" and self.beyond > 0.1 * self.fractions:
            raise ValueError(
                f"its boxes are fractions, but those of {self.beyond} of the first {self.images} "
                f"images go up to {self.furthest:.4g}, so they are not fractions of the image and "
                "nothing tells what they were divided by. If it was the shorter side, on both axes "
                "(then no box goes beyond longer/shorter side), say --boxes shorter-side"
            )
        # A few images that were turned by EXIF must not turn all others.
        swapped = self.swapped >= 3 and self.swapped >= 9 * self.straight
        # One image in ten beyond the smaller size is enough: boxes seldom reach all edges.
        beyond = self.in_larger > 0.1 * self.in_smaller
        file_is_larger = 2 * self.file_is_larger > self.in_smaller + self.in_larger
        return Frame(
            normalized,
            boxes == "shorter-side",
            swapped,
            resized=beyond == file_is_larger,
        )


def place(
    found: Found, frame: Frame, true_hw: Size | None
) -> tuple[np.ndarray, tuple[int, int], list[Flag]]:
    """Bring the boxes of an image into pixels of the original image.

    Args:
        found: What the file holds.
        frame: How it is to be read.
        true_hw: Size of the photograph, where it is known.

    Returns:
        (R, 4) boxes inside the image, the image's height and width, and what was noticed.

    Raises:
        RowError: The boxes cannot be placed.
    """
    boxes = np.asarray(found.boxes, np.float32)
    if boxes.shape[1:] != (4,):
        raise RowError(f"boxes are of the shape {boxes.shape}, not (R, 4)")
    if not np.isfinite(boxes).all():
        raise RowError("boxes have a value that is not finite")
    flags: list[Flag] = []
    if frame.normalized:
        boxes, hw = _multiplied(boxes, found, frame, true_hw, flags)
    else:
        boxes, hw = _in_pixels(boxes, found, frame, true_hw, flags)
    whole = round(hw[0]), round(hw[1])
    return _inside(boxes, whole, flags), whole, flags


def known(hw: Size | None) -> Size | None:
    """Give a file's size, or None where it says nothing: zeros, or not finite."""
    if hw is None or not all(np.isfinite(side) and side >= 1 for side in hw):
        return None
    return float(hw[0]), float(hw[1])


def fits(boxes: np.ndarray, hw: Size) -> bool:
    """Tell whether all boxes are within a size, but for a pixel."""
    return bool((boxes.max(axis=0)[2:] <= np.array(hw[::-1]) + PIXEL).all())


def near(one: Size, other: Size) -> bool:
    """Tell whether two sizes are the same but for rounding."""
    return abs(one[0] - other[0]) <= PIXEL and abs(one[1] - other[1]) <= PIXEL


def one_shape(one: Size, other: Size) -> bool:
    """Tell whether one size is the other, resized: its sides have the same ratio."""
    scale = max(one) / max(other)
    return near((other[0] * scale, other[1] * scale), one) or near(
        (one[0] / scale, one[1] / scale), other
    )


def _multiplied(
    boxes: np.ndarray, found: Found, frame: Frame, true_hw: Size | None, flags: list[Flag]
) -> tuple[np.ndarray, Size]:
    """Turn fractions into pixels."""
    hw = true_hw or _file_size(found, frame, flags)
    if hw is None:
        raise RowError(f"boxes are fractions of an image whose size is not known; {_NO_SIZE}")
    scale = (min(hw),) * 2 if frame.shorter_side else hw
    limits = [OVERHANG * side / unit for side, unit in zip(hw, scale, strict=True)]
    if boxes.size and (boxes.max(axis=0)[2:] > limits[::-1]).any():
        x, y = boxes.max(axis=0)[2:].tolist()
        raise RowError(
            f"boxes are fractions up to {x:.4g} in x and {y:.4g} in y, which an image of "
            f"{_text(hw)} does not hold: they were divided by something else than "
            + ("its shorter side" if frame.shorter_side else "its width and height")
        )
    flags.append(Flag("boxes-normalized", f"multiplied by {_text(scale)}"))
    return (boxes * np.array([scale[1], scale[0]] * 2)).astype(np.float32), hw


def _in_pixels(
    boxes: np.ndarray, found: Found, frame: Frame, true_hw: Size | None, flags: list[Flag]
) -> tuple[np.ndarray, Size]:
    """Find the size that the boxes belong to, and scale them to the photograph's."""
    hw = _file_size(found, frame, flags)
    elsewhere = "resized-size" in found.remarks  # the boxes are not in pixels of the file's size
    if true_hw is None:
        if hw is None:
            raise RowError(f"the file gives no size for this image; {_NO_SIZE}")
        if elsewhere:
            raise RowError(f"the file gives the resized image's size, not the image's; {_NO_SIZE}")
        if boxes.size and not fits(boxes, hw) and fits(boxes, hw[::-1]):
            flags.append(Flag("size-order", f"boxes fit {_text(hw[::-1])}, not {_text(hw)}"))
            return boxes, hw[::-1]
        return boxes, hw
    if hw is None or elsewhere or near(hw, true_hw):
        return boxes, true_hw
    if near(hw[::-1], true_hw) and (not boxes.size or fits(boxes, true_hw)):
        flags.append(Flag("size-order", f"{_text(hw)} in the file, {_text(true_hw)} in truth"))
        return boxes, true_hw
    if not one_shape(hw, true_hw):
        # Also of a photograph that EXIF turns, where the boxes are those of the unturned pixels.
        detail = f"{_text(hw)} in the file, {_text(true_hw)} in truth"
        flags.append(Flag("size-contradicts", detail))
        return boxes, hw
    if not frame.resized:
        flags.append(Flag("size-resized", f"{_text(hw)} in the file, {_text(true_hw)} in truth"))
        return boxes, true_hw
    flags.append(Flag("boxes-rescaled", f"from {_text(hw)} to {_text(true_hw)}"))
    scale = np.array([true_hw[1] / hw[1], true_hw[0] / hw[0]] * 2)
    return (boxes * scale).astype(np.float32), true_hw


def _file_size(found: Found, frame: Frame, flags: list[Flag]) -> Size | None:
    hw = known(found.image_hw)
    if hw is None or not frame.swapped:
        return hw
    flags.append(Flag("size-order", f"the file says {_text(hw)}, taken as {_text(hw[::-1])}"))
    return hw[::-1]


def _inside(boxes: np.ndarray, hw: tuple[int, int], flags: list[Flag]) -> np.ndarray:
    """Clip boxes to their image and say what was wrong with them."""
    if not boxes.size:
        return boxes
    limits = np.array([hw[1], hw[0]] * 2, np.float32)
    beyond = np.maximum(-boxes, boxes - limits).max(axis=1)
    if (count := int((beyond > PIXEL).sum())) > 0:
        detail = f"{count} of {len(boxes)} boxes, by up to {beyond.max():.1f} px of {_text(hw)}"
        flags.append(Flag("boxes-outside", detail))
    clipped: np.ndarray = np.clip(boxes, 0, limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    if (worst := float(sides.min())) < -PIXEL:
        box = clipped[sides.min(axis=1).argmin()].tolist()
        raise RowError(
            f"box {box} ends {-worst:.1f} px before it begins; boxes must be x1, y1, x2, y2, and "
            "these may be x, y, width, height"
        )
    if worst < 0:
        flags.append(Flag("boxes-inverted", f"by up to {-worst:.2f} px"))
        clipped = np.concatenate(
            [
                np.minimum(clipped[:, :2], clipped[:, 2:]),
                np.maximum(clipped[:, :2], clipped[:, 2:]),
            ],
            axis=1,
        )
    if (empty := int((sides.min(axis=1) <= 0).sum())) > 0:
        flags.append(Flag("boxes-empty", f"{empty} of {len(boxes)} boxes"))
    return clipped


def _text(hw: Size) -> str:
    return f"{hw[1]:g}x{hw[0]:g}"
