"""Sizes and pixels are those of Detectron2's own ResizeShortestEdge."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.images.decode import decode
from vlray.images.resize import ResizeShortestEdge

SIZES = [(800, 1333), (600, 1000), (320, 512), (224, 224), (1000, 600)]


def detectron2_resize(image: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    compat = pytest.importorskip("vlray.detect.d2.compat")
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    compat.prepare_detectron2()
    from detectron2.data.transforms import ResizeShortestEdge as Reference

    transform = Reference([min_size, min_size], max_size).get_transform(image)
    return transform.apply_image(image)


def test_photographs_are_resized_as_detectron2_does(photos: Path) -> None:
    for path in sorted(photos.iterdir()):
        image = decode(path.read_bytes())
        for min_size, max_size in SIZES:
            expected = detectron2_resize(image, min_size, max_size)
            resized = ResizeShortestEdge(min_size, max_size)(image)
            np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 5000), (5000, 1), (2, 3000), (799, 1333), (333, 77)]
)
def test_odd_shapes_are_resized_as_detectron2_does(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for min_size, max_size in SIZES:
        resize = ResizeShortestEdge(min_size, max_size)
        if min(height, width) * max_size / max(height, width) < 0.5:
            # Detectron2 would make an image of no pixels, which Pillow refuses.
            assert min(resize(image).shape[:2]) == 1
            continue
        np.testing.assert_array_equal(resize(image), detectron2_resize(image, min_size, max_size))


@given(
    height=st.integers(1, 10_000),
    width=st.integers(1, 10_000),
    min_size=st.integers(1, 1500),
    max_size=st.integers(1, 2000),
)
def test_neither_side_passes_its_limit(
    height: int, width: int, min_size: int, max_size: int
) -> None:
    new_h, new_w = ResizeShortestEdge(min_size, max_size).output_hw(height, width)
    assert 1 <= min(new_h, new_w) <= min_size
    assert max(new_h, new_w) <= max(max_size, 1)
    assert new_h == min_size or new_w == min_size or max(new_h, new_w) == max_size
    if min(new_h, new_w) > 20:  # beyond rounding
        assert abs(new_w / new_h - width / height) / (width / height) < 0.1


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.zeros((320, 400, 3), np.uint8)
    assert ResizeShortestEdge(320, 512)(image) is image


def test_it_travels_to_another_process() -> None:
    resize = ResizeShortestEdge(320, 512)
    assert pickle.loads(pickle.dumps(resize)) == resize
