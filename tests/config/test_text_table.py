from __future__ import annotations

import pytest

from vlray.settings.text_table import align

ROWS = [("name", "n", "about"), ("a", "1,000", ""), ("longer", "7", "two words")]


def test_columns_are_two_spaces_apart_and_no_line_ends_with_spaces() -> None:
    assert align(ROWS) == [
        "name    n      about",
        "a       1,000",
        "longer  7      two words",
    ]


def test_numbers_are_aligned_to_the_right_and_names_to_the_left() -> None:
    assert align(ROWS, right=True) == [
        "name        n      about",
        "a       1,000",
        "longer      7  two words",
    ]


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        align([("a", "b"), ("a",)])


def test_no_rows_make_no_lines() -> None:
    assert align([]) == []
