"""Boxes hit or miss."""

from __future__ import annotations

import pytest

from vlray.tasks.example import Boxes
from vlray.tasks.grounding import box_score, phrase_hits

FULL = (0.0, 0.0, 10.0, 10.0)
HALF = (0.0, 0.0, 5.0, 10.0)
FAR = (20.0, 20.0, 30.0, 30.0)


def test_half_of_a_box_is_a_hit_and_less_is_not() -> None:
    assert box_score(Boxes((FULL,)), list(HALF)) == 1
    assert box_score(Boxes((FULL,)), [0, 0, 4.9, 10]) == 0


def test_a_phrase_is_found_where_any_of_its_boxes_is_hit_early_enough() -> None:
    label = Boxes((FULL, FAR, HALF), spans=((0, 3), (0, 3), (5, 8)))
    hits = phrase_hits(label, [[(50, 50, 60, 60), FAR], [FAR] * 6 + [HALF]])
    assert hits == {(0, 3): [False, True, True], (5, 8): [False, False, True]}


def test_phrases_without_predictions_are_missed() -> None:
    label = Boxes((FULL,), spans=((0, 3),))
    assert phrase_hits(label, []) == phrase_hits(label, [[]]) == {(0, 3): [False] * 3}


def test_boxes_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="pass x1, y1, x2, y2 in pixels"):
        box_score(Boxes((FULL,)), "a box")
    with pytest.raises(ValueError, match="2 phrases have predictions, but the example has 1"):
        phrase_hits(Boxes((FULL,), spans=((0, 3),)), [[FULL], [FULL]])
