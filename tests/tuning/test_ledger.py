"""What a sweep keeps of its trials."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vlray.tuning.ledger import SWEEP, TRIALS, Ledger, Trial, claim, trial_id
from vlray.tuning.objective import Objective


def test_trials_are_there_again_and_failed_ones_are_not_done(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    kept = Trial({"a": [0.1, 2]}, "finished", {"ar@36": 0.5, "x": math.nan}, seconds=2)
    ledger.add(kept)
    ledger.add(Trial({"a": 3}, "failed", error="ValueError: no"))
    again = Ledger.open(tmp_path)
    assert again.trials == {
        kept.id: Trial(kept.setting, "finished", {"ar@36": 0.5, "x": None}, seconds=2),
        trial_id({"a": 3}): Trial({"a": 3}, "failed", error="ValueError: no"),
    }
    assert again.done(kept.setting)
    assert not again.done({"a": 3})
    assert not again.done({})
    assert math.isnan(again.trials[kept.id].value("x"))


def test_a_half_written_line_is_taken_away_and_written_again(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    for number in range(3):
        ledger.add(Trial({"a": number}, "finished", {"y": number}))
    whole = (tmp_path / TRIALS).read_bytes()
    begin = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(begin, len(whole)):  # killed at any byte of the last line
        (tmp_path / TRIALS).write_bytes(whole[:end])
        again = Ledger.open(tmp_path)
        assert len(again.trials) == 2
        again.add(Trial({"a": 2}, "finished", {"y": 2}))
        assert (tmp_path / TRIALS).read_bytes() == whole


def test_a_setting_names_its_trial_whatever_its_order() -> None:
    assert trial_id({"a": 1, "b": 0.5}) == trial_id({"b": 0.5, "a": 1})
    assert trial_id({"a": 1}) != trial_id({"a": 2})
    assert trial_id({}) == "defaults"


def test_the_best_is_none_that_failed_and_none_without_a_number(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger.best(Objective("y", "max")) is None
    for number, (state, value) in enumerate(
        [("finished", 1.0), ("failed", 9.0), ("stopped", 3.0), ("finished", math.nan)]
    ):
        ledger.add(Trial({"a": number}, state, {"y": value}))
    assert ledger.best(Objective("y", "max")).setting == {"a": 2}
    assert ledger.best(Objective("y", "min")).setting == {"a": 0}


def test_another_sweep_in_the_folder_is_refused_with_what_differs(tmp_path: Path) -> None:
    about = {"space": {"nms_thresh": "0.3,0.5"}, "objective": "ar@36", "given": {"images": ("a",)}}
    claim(tmp_path, about | {"objective": "boxes"})  # of which no trial has ended
    claim(tmp_path, about)
    Ledger.open(tmp_path).add(Trial({}, "finished"))
    claim(tmp_path, about)
    other = about | {"space": {"max_boxes": "5"}, "objective": "ar@10"}
    with pytest.raises(ValueError, match="has another sweep") as error:
        claim(tmp_path, other)
    assert "  objective: ar@36 there, ar@10 here" in str(error.value)
    assert "  space.max_boxes: not given there, 5 here" in str(error.value)
    assert "  space.nms_thresh: 0.3,0.5 there, not given here" in str(error.value)
    assert "given.images" not in str(error.value)
    assert json.loads((tmp_path / SWEEP).read_text())["objective"] == "ar@36"
