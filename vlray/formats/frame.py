"""Determine the unit of the boxes and the size of the image, and convert boxes to pixels.

Shapes: R: regions in one image.

``hw`` is always height and width, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlray.formats.flags import Flag, RowError
from vlray.formats.readers.protocol import RawRegions
from vlray.settings.wording import counted

FRACTION = 1.5
"""Largest coordinate of boxes in fractions; above 1, since boxes may exceed the image."""

OVERHANG = 1.05
"""Largest plausible fraction; larger values were not divided by the image's width and height."""

PIXEL = 1.0
"""Tolerance in pixels for boxes that exceed the image because of rounding or "+1" conventions."""

Size = tuple[float, float]

_NO_SIZE = "pass --images FOLDER (the photographs) or --sizes FILE (id, height, width)"


@dataclass(frozen=True)
class Frame:
    """How to interpret the sizes and boxes in a file; the same for all images in the file.

    Attributes:
        normalized: Boxes are fractions of the image's width and height.
        shorter_side: Boxes are fractions of the image's shorter side, on both axes.
        swapped: Sizes have the width first, although the format specifies the height first.
        resized: If the size in the file differs from the photograph's, boxes are in pixels of
            the size in the file.
    """

    normalized: bool = False
    shorter_side: bool = False
    swapped: bool = False
    resized: bool = True


@dataclass
class FrameVotes:
    """Evidence about the frame, as counts of the first images."""

    images: int = 0
    fractions: int = 0  # boxes are fractions
    beyond: int = 0  # a fraction exceeds OVERHANG
    furthest: float = 0.0  # the largest fraction, not a count
    straight: int = 0  # only the stated order of height and width fits
    swapped: int = 0  # only the swapped order fits
    # The next three count images where the file and the photograph differ in scale.
    in_smaller: int = 0  # boxes fit the smaller of the two sizes
    in_larger: int = 0  # boxes exceed the smaller of the two sizes
    file_is_larger: int = 0

    def add(self, raw: RawRegions, true_hw: Size | None) -> None:
        """Count one image."""
        boxes = np.asarray(raw.boxes, np.float64)
        if boxes.shape[1:] != (4,) or not len(boxes) or not np.isfinite(boxes).all():
            return
        self.images += 1
        if boxes.max() <= FRACTION or "normalized-boxes" in raw.remarks:
            self.fractions += 1
            self.beyond += boxes.max() > OVERHANG
            self.furthest = max(self.furthest, float(boxes.max()))
            return
        hw = valid_size(raw.image_hw)
        if hw is None or "resized-size" in raw.remarks:
            return
        # The photograph determines the order of the sides; without a photograph, the boxes do.
        if true_hw is not None:
            straight = nearly_equal(hw, true_hw)
            swapped = nearly_equal(hw[::-1], true_hw) and fits(boxes, true_hw)
        else:
            straight, swapped = fits(boxes, hw), fits(boxes, hw[::-1])
        self.straight += straight and not swapped
        self.swapped += swapped and not straight
        if true_hw is not None and not straight and not swapped and same_aspect_ratio(hw, true_hw):
            smaller = min(hw, true_hw)
            self.in_smaller += fits(boxes, smaller)
            self.in_larger += not fits(boxes, smaller)
            self.file_is_larger += hw > true_hw

    def frame(self, boxes: str) -> Frame:
        """Choose the frame that fits most images.

        Args:
            boxes: The option ``boxes``; ``auto``: detect the unit.

        Raises:
            ValueError: Boxes are fractions, but not of the image's width and height.
        """
        # Up to a tenth of the images may be outliers.
        normalized = self.images > 0 and self.fractions >= 0.9 * self.images
        normalized = normalized if boxes == "auto" else boxes != "pixels"
        if normalized and boxes != "shorter-side" and self.beyond > 0.1 * self.fractions:
            raise ValueError(
                "boxes look like fractions of width and height, but values reach "
                f"{self.furthest:.4g} (too large in {self.beyond} of the first "
                f"{counted(self.images, 'image')}). If both axes were divided by the shorter side "
                "(values up to longer side / shorter side), pass --boxes shorter-side"
            )
        # A few images with EXIF rotation must not swap the sizes of all others.
        swapped = self.swapped >= 3 and self.swapped >= 9 * self.straight
        # One image in ten that exceeds the smaller size is enough: boxes seldom touch the edges.
        beyond = self.in_larger > 0.1 * self.in_smaller
        file_is_larger = 2 * self.file_is_larger > self.in_smaller + self.in_larger
        return Frame(
            normalized,
            boxes == "shorter-side",
            swapped,
            resized=beyond == file_is_larger,
        )


def boxes_in_pixels(
    raw: RawRegions, frame: Frame, true_hw: Size | None
) -> tuple[np.ndarray, tuple[int, int], list[Flag]]:
    """Convert the boxes of an image to pixels of the original image.

    Args:
        raw: Regions as stored in the file.
        frame: How to interpret the file.
        true_hw: Height and width of the photograph; None if unknown.

    Returns:
        (R, 4) boxes clipped to the image, the image's height and width, and the flags.

    Raises:
        RowError: The boxes are invalid, or the image's size is unknown.
    """
    boxes = np.asarray(raw.boxes, np.float32)
    if boxes.shape[1:] != (4,):
        raise RowError(f"boxes must have shape (R, 4), but have shape {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise RowError("boxes contain a non-finite value")
    flags: list[Flag] = []
    if frame.normalized:
        boxes, hw = _from_fractions(boxes, raw, frame, true_hw, flags)
    else:
        boxes, hw = _from_pixels(boxes, raw, frame, true_hw, flags)
    whole = round(hw[0]), round(hw[1])
    return _clip(boxes, whole, flags), whole, flags


def valid_size(hw: Size | None) -> Size | None:
    """Return an image size from the file, or None if it is missing, below 1 or not finite."""
    if hw is None or not all(np.isfinite(side) and side >= 1 for side in hw):
        return None
    return float(hw[0]), float(hw[1])


def fits(boxes: np.ndarray, hw: Size) -> bool:
    """Return whether all boxes end inside an image of this size, within a pixel."""
    return bool((boxes.max(axis=0)[2:] <= np.array(hw[::-1]) + PIXEL).all())


def nearly_equal(one: Size, other: Size) -> bool:
    """Return whether two sizes differ by at most a pixel per side."""
    return abs(one[0] - other[0]) <= PIXEL and abs(one[1] - other[1]) <= PIXEL


def same_aspect_ratio(one: Size, other: Size) -> bool:
    """Return whether one size is a resized version of the other."""
    scale = max(one) / max(other)
    return nearly_equal((other[0] * scale, other[1] * scale), one) or nearly_equal(
        (one[0] / scale, one[1] / scale), other
    )


def _from_fractions(
    boxes: np.ndarray, raw: RawRegions, frame: Frame, true_hw: Size | None, flags: list[Flag]
) -> tuple[np.ndarray, Size]:
    """Convert fractions to pixels."""
    hw = true_hw or _file_size(raw, frame, flags)
    if hw is None:
        raise RowError(f"boxes are fractions, but the image's size is unknown; {_NO_SIZE}")
    scale = (min(hw),) * 2 if frame.shorter_side else hw
    limits = [OVERHANG * side / unit for side, unit in zip(hw, scale, strict=True)]
    if boxes.size and (boxes.max(axis=0)[2:] > limits[::-1]).any():
        x, y = boxes.max(axis=0)[2:].tolist()
        raise RowError(
            f"boxes are fractions up to {x:.4g} in x and {y:.4g} in y, too large for an image of "
            f"{_format_size(hw)}: the divisor was not "
            + ("its shorter side" if frame.shorter_side else "its width and height")
        )
    flags.append(Flag("boxes-normalized", f"multiplied by {_format_size(scale)}"))
    return (boxes * np.array([scale[1], scale[0]] * 2)).astype(np.float32), hw


def _from_pixels(
    boxes: np.ndarray, raw: RawRegions, frame: Frame, true_hw: Size | None, flags: list[Flag]
) -> tuple[np.ndarray, Size]:
    """Convert pixel boxes to pixels of the photograph; also return the image's size."""
    hw = _file_size(raw, frame, flags)
    is_resized = "resized-size" in raw.remarks  # boxes are not in pixels of the size in the file
    # Without a photograph, the file is the only source for the size.
    if true_hw is None:
        if hw is None:
            raise RowError(f"the file contains no size for this image; {_NO_SIZE}")
        if is_resized:
            raise RowError(f"the file contains only the size of the resized image; {_NO_SIZE}")
        if boxes.size and not fits(boxes, hw) and fits(boxes, hw[::-1]):
            flags.append(
                Flag("size-order", f"boxes fit {_format_size(hw[::-1])}, not {_format_size(hw)}")
            )
            return boxes, hw[::-1]
        return boxes, hw
    if hw is None or is_resized or nearly_equal(hw, true_hw):
        return boxes, true_hw
    # The sides are swapped for this image only.
    if nearly_equal(hw[::-1], true_hw) and (not boxes.size or fits(boxes, true_hw)):
        flags.append(
            Flag("size-order", f"{_format_size(hw)} in the file, {_format_size(true_hw)} in truth")
        )
        return boxes, true_hw
    if not same_aspect_ratio(hw, true_hw):
        # This includes EXIF-rotated photographs whose boxes refer to the unrotated pixels.
        detail = f"{_format_size(hw)} in the file, {_format_size(true_hw)} in truth"
        flags.append(Flag("size-contradicts", detail))
        return boxes, hw
    if not frame.resized:
        flags.append(
            Flag(
                "size-resized", f"{_format_size(hw)} in the file, {_format_size(true_hw)} in truth"
            )
        )
        return boxes, true_hw
    flags.append(Flag("boxes-rescaled", f"from {_format_size(hw)} to {_format_size(true_hw)}"))
    scale = np.array([true_hw[1] / hw[1], true_hw[0] / hw[0]] * 2)
    return (boxes * scale).astype(np.float32), true_hw


def _file_size(raw: RawRegions, frame: Frame, flags: list[Flag]) -> Size | None:
    hw = valid_size(raw.image_hw)
    if hw is None or not frame.swapped:
        return hw
    flags.append(
        Flag("size-order", f"{_format_size(hw)} in the file, read as {_format_size(hw[::-1])}")
    )
    return hw[::-1]


def _clip(boxes: np.ndarray, hw: tuple[int, int], flags: list[Flag]) -> np.ndarray:
    """Clip boxes to their image, and add a flag for each problem."""
    if not boxes.size:
        return boxes
    limits = np.array([hw[1], hw[0]] * 2, np.float32)
    beyond = np.maximum(-boxes, boxes - limits).max(axis=1)
    if (count := int((beyond > PIXEL).sum())) > 0:
        detail = (
            f"{count} of {len(boxes)} boxes, by up to {beyond.max():.1f} px of {_format_size(hw)}"
        )
        flags.append(Flag("boxes-outside", detail))
    clipped: np.ndarray = np.clip(boxes, 0, limits)
    sides = clipped[:, 2:] - clipped[:, :2]
    if (worst := float(sides.min())) < -PIXEL:
        box = clipped[sides.min(axis=1).argmin()].tolist()
        raise RowError(
            f"box {box} ends {-worst:.1f} px before it starts; boxes must be x1, y1, x2, y2, but "
            "these are possibly x, y, width, height"
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


def _format_size(hw: Size) -> str:
    return f"{hw[1]:g}x{hw[0]:g}"
