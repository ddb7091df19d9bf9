"""Boxes and text that can be read, whatever the image's size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlray.images.draw import draw_regions, label_colour

BLACK = np.zeros((240, 320, 3), np.uint8)
BOX = np.array([[60, 80, 200, 180]], np.float32)


def changed(image: np.ndarray, before: np.ndarray = BLACK) -> np.ndarray:
    return (np.asarray(image)[:, :, ::-1] != before).any(axis=2)


def test_a_box_is_drawn_in_the_colour_of_its_label_along_its_edges() -> None:
    drawn = np.asarray(draw_regions(BLACK, BOX, ["carrot"]))
    colour = label_colour("carrot")
    assert drawn.shape == BLACK.shape
    for y, x in [(80, 150), (179, 150), (120, 60), (120, 199), (179, 60)]:
        assert tuple(drawn[y, x]) == colour
    assert not drawn[100:160, 80:180].any()
    assert not BLACK.any()


def test_colours_of_the_photograph_keep_their_channels() -> None:
    blue = np.zeros((50, 50, 3), np.uint8)
    blue[:, :, 0] = 255  # BGR
    image = draw_regions(blue, np.zeros((0, 4), np.float32))
    assert image.mode == "RGB"
    assert image.getpixel((25, 25)) == (0, 0, 255)


def test_text_stands_on_its_colour_above_the_box() -> None:
    with_text = draw_regions(BLACK, BOX, ["carrot"], [0.97], ["orange"])
    without = draw_regions(BLACK, BOX)
    text = changed(with_text)[:80]
    assert text.any()
    rows, columns = np.flatnonzero(text.any(axis=1)), np.flatnonzero(text.any(axis=0))
    assert rows.max() == 79  # it touches the box
    assert columns.min() == 60
    assert not changed(without)[:80].any()


def test_longer_words_take_more_room() -> None:
    widths = [
        changed(draw_regions(BLACK, BOX, ["cat"], **more))[:80].any(axis=0).sum()
        for more in ({}, {"scores": [0.5]}, {"scores": [0.5], "attributes": ["brown"]})
    ]
    assert widths[0] < widths[1] < widths[2]


def test_everything_grows_with_the_image() -> None:
    small = changed(draw_regions(BLACK, BOX, ["cat"]))[:80].any(axis=1).sum()
    large = np.zeros((2400, 3200, 3), np.uint8)
    grown = changed(draw_regions(large, BOX * 10, ["cat"]), large)[:800].any(axis=1).sum()
    assert grown > 3 * small


def test_a_label_always_has_the_same_strong_colour() -> None:
    labels = [f"label {index}" for index in range(400)]
    colours = {label_colour(label) for label in labels}
    assert colours == {label_colour(label) for label in labels}
    assert len(colours) > 250
    assert all(max(colour) - min(colour) > 100 for colour in colours)
    assert label_colour("carrot") == (153, 43, 217)  # on every machine, in every run


def test_labels_of_boxes_at_one_place_do_not_hide_each_other() -> None:
    boxes = np.repeat(BOX, 4, axis=0) + np.arange(4, dtype=np.float32)[:, None]
    names = ["cat", "dog", "bird", "cow"]
    drawn = np.asarray(draw_regions(BLACK, boxes, names, [0.4, 0.3, 0.9, 0.5]))
    shown = [name for name in names if (drawn == label_colour(name)).all(axis=2).sum() > 300]
    assert shown == names


def test_of_too_many_labels_the_highest_scores_are_written() -> None:
    boxes = np.repeat(BOX, 40, axis=0)
    names = [f"name {index}" for index in range(40)]
    drawn = np.asarray(draw_regions(BLACK, boxes, names, np.linspace(0, 1, 40, dtype=np.float32)))
    areas = [(drawn == label_colour(name)).all(axis=2).sum() for name in names]
    assert areas[-1] > 300
    assert areas[0] < 300


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    boxes=st.lists(
        st.tuples(*[st.floats(-50, 350, width=32) | st.sampled_from([np.nan, np.inf])] * 4),
        max_size=5,
    ),
    label=st.text(max_size=40),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_image_boxes_and_label_can_be_drawn(
    height: int, width: int, boxes: list[tuple[float, ...]], label: str
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    drawn = draw_regions(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        [label] * len(boxes),
        np.full(len(boxes), 0.5, np.float32),
    )
    assert drawn.size == (width, height)


def test_text_never_leaves_the_image() -> None:
    grey = np.full((240, 320, 3), 100, np.uint8)

    def ink(box: list[float]) -> int:
        """Count the pixels of letters: neither the photograph's nor the label's colour."""
        drawn = np.asarray(draw_regions(grey, np.array([box], np.float32), ["elephant"], [0.5]))
        others = [(drawn != colour).any(axis=2) for colour in (100, label_colour("elephant"))]
        return int(np.logical_and(*others).sum())

    middle = ink([100, 100, 200, 200])
    assert middle > 50
    for box in ([0, 0, 20, 10], [310, 230, 320, 240], [300, 0, 320, 9], [-9, 200, 330, 300]):
        assert ink([*map(float, box)]) == middle


def test_a_label_that_is_too_long_is_cut_and_fills_the_width() -> None:
    grey = np.full((240, 320, 3), 100, np.uint8)
    drawn = changed(draw_regions(grey, BOX, ["word " * 100]), grey)[:80]
    assert 300 < drawn.any(axis=0).sum() <= 320
    assert 8 < drawn.any(axis=1).sum() < 24


def test_a_label_of_two_lines_is_written_in_one() -> None:
    one, two = (draw_regions(BLACK, BOX, [label]) for label in ("a b", "a\n b "))
    assert (changed(one) == changed(two)).mean() > 0.95  # only the colours differ


def test_values_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels for 1 boxes; pass one per box"):
        draw_regions(BLACK, BOX, ["a", "b"])
    with pytest.raises(ValueError, match="3 scores for 1 boxes"):
        draw_regions(BLACK, BOX, ["a"], [1.0, 2.0, 3.0])
