"""Boxes in each model's form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.config.loader import BoxForm
from vlray.loader.boxes import check_boxes, encode_boxes


@given(height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_the_whole_image_is_one_in_every_form(height: int, width: int) -> None:
    whole = np.array([[[0, 0, width, height], [0, 0, 0, 0]]], np.float32)
    hw = np.array([[height, width]], np.int32)
    forms: dict[BoxForm, int] = {"xyxy": 4, "xyxy_area": 5, "xyxy_wh": 6, "xyxy_wh_area": 7}
    for form, numbers in forms.items():
        encoded = encode_boxes(whole, hw, form)
        np.testing.assert_array_equal(encoded[0, 0], [0, 0] + [1] * (numbers - 2))
        assert not encoded[0, 1].any()


@given(st.integers(0, 2**32 - 1))
def test_pixels_come_back_from_the_unit_square(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hw = rng.integers(1, 2000, (3, 2)).astype(np.int32)
    size = hw[:, None, [1, 0, 1, 0]]
    corners = np.sort(rng.random((3, 5, 2, 2)), axis=2).reshape(3, 5, 4)
    boxes = (corners * size).astype(np.float32)
    encoded = encode_boxes(boxes, hw, "xyxy_wh_area")
    np.testing.assert_allclose(encoded[..., :4] * size, boxes, atol=1e-3)
    np.testing.assert_allclose(encoded[..., 4:6], encoded[..., 2:4] - encoded[..., :2])
    np.testing.assert_allclose(encoded[..., 6], encoded[..., 4] * encoded[..., 5])


def test_a_box_of_the_resized_image_is_refused_with_its_values() -> None:
    hw = np.array([[480, 640]], np.int32)
    check_boxes(np.array([[[0, 0, 641, 481]]], np.float32), hw)
    with pytest.raises(
        ValueError, match=r"box 0 of image 3 is \[0.0, 0.0, 800.0, 600.0\].*640x480"
    ):
        check_boxes(np.array([[[0, 0, 800, 600]]], np.float32), hw, 3)
