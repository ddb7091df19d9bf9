"""Problems are counted by kind, and said once."""

from __future__ import annotations

import pytest

from vlray.tasks.problems import DataError, Problems


def test_every_problem_is_counted_and_the_first_are_shown() -> None:
    problems = Problems()
    for number in range(1500):
        problems.add("broken-line", f"line {number}")
    problems.add("no-image", "q7", count=20)
    assert len(problems) == 1520
    assert problems.lines() == [
        "1,500 unreadable lines or entries, such as line 0; line 1; line 2",
        "20 annotations without an image, such as q7",
    ]


def test_merged_problems_are_those_of_both() -> None:
    one, other = Problems(), Problems()
    one.add("no-image", "a")
    for name in "bcde":
        other.add("no-image", name)
    other.add("bad-box", "f")
    one.merge(other)
    assert one.counts == {"no-image": 5, "bad-box": 1}
    assert one.examples == {"no-image": ["a", "b", "c"], "bad-box": ["f"]}
    assert other.examples["no-image"] == ["b", "c", "d"]


def test_only_stop_stops_and_only_at_a_problem() -> None:
    problems = Problems()
    problems.check("stop", "vqa:train")
    problems.add("duplicate-id", "q1")
    problems.check("skip", "vqa:train")
    problems.check("skip-entries", "vqa:train")
    with pytest.raises(DataError, match=r"vqa:train:\n  1 example with a duplicate id"):
        problems.check("stop", "vqa:train")


def test_a_file_that_breaks_off_stops_unless_it_is_skipped() -> None:
    problems = Problems()
    problems.add("bad-box", "box 1")
    assert problems.left_out == ""
    problems.add("cut-off", "train.json breaks off after 4 entries")
    problems.add("no-question", "7", count=2)
    problems.check("skip", "vqa:train")
    with pytest.raises(DataError, match=r"train.json breaks off(?s:.*)--data.on-bad skip"):
        problems.check("skip-entries", "vqa:train")
    assert problems.left_out == (
        "1 file that cannot be read to its end, 2 annotations without a question"
    )
