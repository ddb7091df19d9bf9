from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.formats.flags import RowError
from vlray.formats.frame import Frame, FrameVotes, boxes_in_pixels
from vlray.formats.readers.protocol import RawRegions


def found(boxes: object, hw: tuple[float, float] | None, *remarks: str) -> RawRegions:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return RawRegions("1", array, np.zeros((len(array), 2), np.float32), hw, remarks=remarks)


LANDSCAPE = found([[0, 0, 639, 479], [10, 20, 30, 40]], (480, 640))


def voted(*images: RawRegions, true: tuple[int, int] | None = None, boxes: str = "auto") -> Frame:
    votes = FrameVotes()
    for image in images:
        votes.add(image, true)
    return votes.frame(boxes)


def names(flags: list) -> list[str]:
    return [flag.flag for flag in flags]


def test_an_honest_file_is_taken_as_it_is() -> None:
    frame = voted(*[LANDSCAPE] * 5)
    assert frame == Frame(normalized=False, swapped=False)
    boxes, hw, flags = boxes_in_pixels(LANDSCAPE, frame, None)
    assert (hw, flags) == ((480, 640), [])
    np.testing.assert_array_equal(boxes, LANDSCAPE.boxes)


def test_boxes_tell_that_width_and_height_are_exchanged() -> None:
    exchanged = replace(LANDSCAPE, image_hw=(640, 480))
    within = found([[5, 5, 100, 100]], (640, 480))  # fits both orders, and so tells nothing
    frame = voted(*[exchanged] * 3, within)
    assert frame.swapped
    for image in (exchanged, within):
        _, hw, flags = boxes_in_pixels(image, frame, None)
        assert (hw, names(flags)) == ((480, 640), ["size-order"])


def test_one_exchanged_image_does_not_turn_the_others() -> None:
    exchanged = replace(LANDSCAPE, image_hw=(640, 480))
    frame = voted(exchanged, *[LANDSCAPE] * 20)
    assert not frame.swapped
    _, hw, flags = boxes_in_pixels(exchanged, frame, None)
    assert (hw, names(flags)) == ((480, 640), ["size-order"])


def test_the_photograph_tells_that_width_and_height_are_exchanged() -> None:
    image = found([[5, 5, 100, 100]], (640, 480))
    _, hw, flags = boxes_in_pixels(image, Frame(), (480, 640))
    assert (hw, names(flags)) == ((480, 640), ["size-order"])


def test_boxes_of_a_photograph_that_only_exif_turns_keep_their_own_size() -> None:
    frame = voted(*[LANDSCAPE] * 4, true=(640, 480))
    assert not frame.swapped
    boxes, hw, flags = boxes_in_pixels(LANDSCAPE, frame, (640, 480))
    assert (hw, names(flags)) == ((480, 640), ["size-contradicts"])
    np.testing.assert_array_equal(boxes, LANDSCAPE.boxes)


@pytest.mark.parametrize("true", [None, (960, 1280)])
def test_fractions_are_multiplied_by_the_true_size(true: tuple[int, int] | None) -> None:
    image = found([[0, 0.25, 0.5, 1]], (480, 640))
    frame = voted(*[image] * 4)
    assert frame.normalized
    boxes, hw, flags = boxes_in_pixels(image, frame, true)
    height, width = true or (480, 640)
    assert (hw, names(flags)) == ((height, width), ["boxes-normalized"])
    np.testing.assert_allclose(boxes, [[0, 0.25 * height, 0.5 * width, height]])


def test_fractions_without_a_size_are_refused_with_the_way_out() -> None:
    image = found([[0, 0.25, 0.5, 1]], None)
    with pytest.raises(RowError, match=r"size is unknown; pass --images FOLDER .* or --sizes"):
        boxes_in_pixels(image, voted(image), None)
    with pytest.raises(RowError, match="no size for this image; pass --images"):
        boxes_in_pixels(replace(LANDSCAPE, image_hw=None), voted(LANDSCAPE), None)


def test_the_option_wins_over_what_the_boxes_tell() -> None:
    tiny = found([[0, 0, 1, 1]], (480, 640))
    assert voted(tiny).normalized
    assert not voted(tiny, boxes="pixels").normalized
    assert voted(LANDSCAPE, boxes="normalized").normalized


@pytest.mark.parametrize("file_hw", [(600, 800), (240, 320)])
def test_boxes_of_the_resized_image_are_scaled_to_the_photograph(
    file_hw: tuple[int, int],
) -> None:
    height, width = file_hw
    image = found([[0, 0, width, height], [width / 2, 0, width, height / 2]], file_hw)
    frame = voted(*[image] * 4, true=(480, 640))
    boxes, hw, flags = boxes_in_pixels(image, frame, (480, 640))
    assert (hw, names(flags)) == ((480, 640), ["boxes-rescaled"])
    np.testing.assert_allclose(boxes, [[0, 0, 640, 480], [320, 0, 640, 240]])


@pytest.mark.parametrize("file_hw", [(600, 800), (240, 320)])
def test_boxes_of_the_original_beside_a_resized_size_stay(file_hw: tuple[int, int]) -> None:
    image = found([[0, 0, 639, 479]], file_hw)
    frame = voted(*[image] * 4, true=(480, 640))
    boxes, hw, flags = boxes_in_pixels(image, frame, (480, 640))
    assert (hw, names(flags)) == ((480, 640), ["size-resized"])
    np.testing.assert_array_equal(boxes, image.boxes)


def test_a_size_of_another_shape_than_the_photographs_is_doubtful() -> None:
    _, hw, flags = boxes_in_pixels(LANDSCAPE, Frame(), (500, 500))
    assert (hw, names(flags)) == ((480, 640), ["size-contradicts"])


def test_a_size_that_the_boxes_do_not_belong_to_is_no_size() -> None:
    image = found([[0, 0, 639, 479]], (600, 800), "resized-size")
    with pytest.raises(RowError, match="only the size of the resized image; pass --images"):
        boxes_in_pixels(image, Frame(), None)
    assert boxes_in_pixels(image, Frame(), (480, 640))[1:] == ((480, 640), [])


def test_boxes_outside_are_clipped_and_flagged_beyond_a_pixel() -> None:
    boxes, _, flags = boxes_in_pixels(found([[-0.5, 0, 640.9, 480]], (480, 640)), Frame(), None)
    assert flags == []
    np.testing.assert_array_equal(boxes, [[0, 0, 640, 480]])
    _, _, flags = boxes_in_pixels(
        found([[0, 0, 700, 480], [0, 0, 9, 9]], (480, 640)), Frame(), None
    )
    assert [(f.flag, f.detail) for f in flags] == [
        ("boxes-outside", "1 of 2 boxes, by up to 60.0 px of 640x480")
    ]


def test_corners_in_the_wrong_order_are_refused_or_put_right() -> None:
    with pytest.raises(RowError, match=r"ends 200.0 px before it starts.*x, y, width, height"):
        boxes_in_pixels(found([[300, 0, 100, 50]], (480, 640)), Frame(), None)
    boxes, _, flags = boxes_in_pixels(found([[30, 0, 29.5, 50]], (480, 640)), Frame(), None)
    assert names(flags) == ["boxes-inverted", "boxes-empty"]
    np.testing.assert_array_equal(boxes, [[29.5, 0, 30, 50]])


def test_values_that_are_not_finite_and_other_shapes_are_refused() -> None:
    with pytest.raises(RowError, match="non-finite"):
        boxes_in_pixels(found([[0, 0, np.nan, 1]], (480, 640)), Frame(), None)
    with pytest.raises(RowError, match=r"have shape \(2, 3\)"):
        boxes_in_pixels(replace(LANDSCAPE, boxes=np.zeros((2, 3))), Frame(), None)


@given(
    st.lists(st.tuples(*[st.floats(-3000, 3000, width=32)] * 4), max_size=5),
    st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    st.sampled_from([None, (480, 640), (600, 800)]),
    st.builds(Frame, st.booleans(), st.booleans(), st.booleans()),
)
def test_whatever_is_placed_is_inside_its_image(
    corners: list, hw: tuple[int, int], true: tuple[int, int] | None, frame: Frame
) -> None:
    try:
        boxes, (height, width), _ = boxes_in_pixels(found(corners, hw), frame, true)
    except RowError:
        return
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert (boxes <= np.float32([width, height, width, height])).all()


def test_fractions_of_something_else_than_the_image_are_refused_until_it_is_said_of_what() -> None:
    by_shorter = found([[0, 0, 1.3328, 0.99], [0.1, 0.1, 0.5, 0.5]], None)
    with pytest.raises(
        ValueError,
        match=r"values reach 1\.333 \(too large in 2 of the first 3 images.*shorter-side",
    ):
        voted(by_shorter, by_shorter, found([[0, 0, 0.9, 0.9]], None))
    with pytest.raises(ValueError, match="look like fractions of width and height, but"):
        voted(by_shorter, boxes="normalized")
    frame = voted(by_shorter, boxes="shorter-side")
    boxes, _, flags = boxes_in_pixels(by_shorter, frame, (600, 800))
    np.testing.assert_allclose(boxes, [[0, 0, 799.68, 594], [60, 60, 300, 300]], rtol=1e-5)
    assert names(flags) == ["boxes-normalized"]
    with pytest.raises(RowError, match=r"up to 1\.333 in x .* 600x800: .* not its shorter side"):
        boxes_in_pixels(by_shorter, frame, (800, 600))


def test_one_image_whose_fractions_pass_its_edge_by_far_is_no_good_row() -> None:
    frame = voted(*[found([[0, 0, 0.9, 1.01]], None)] * 20, found([[0, 0, 1.2, 1]], None))
    assert frame == Frame(normalized=True)
    assert names(boxes_in_pixels(found([[0, 0, 0.9, 1.01]], None), frame, (480, 640))[2]) == [
        "boxes-normalized",
        "boxes-outside",
    ]
    with pytest.raises(RowError, match=r"up to 1\.2 in x and 1 in y.*not its width and height"):
        boxes_in_pixels(found([[0, 0, 1.2, 1]], None), frame, (480, 640))
