"""What a search leaves: the table, the Parquet file, the best settings, the pictures."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlray.config.tune import TuneConfig
from vlray.tuning.ledger import Ledger, Trial
from vlray.tuning.objective import Objective, make_objective
from vlray.tuning.plots import draw, front
from vlray.tuning.result import Result, headline, table, write
from vlray.tuning.tuned import read_tuned

NAMES = ("optim.lr", "model.freeze", "training.batch_size")


def make(folder: Path, trials: list[Trial], mode: str = "max") -> Result:
    ledger = Ledger.open(folder)
    for trial in trials:
        ledger.add(trial)
    tuned = read_tuned(TuneConfig(tuned=("train", "vqa:train", "regions", "--epochs", "2")))
    return Result.of(tuned, NAMES, Objective("y", mode), ledger)


def trial(lr: float, y: float, state: str = "finished", **more: float) -> Trial:
    setting = {"optim.lr": lr, "model.freeze": [["a"], []][lr > 1], "training.batch_size": 8}
    return Trial(setting, state, {"y": y, **more}, error="" if state != "failed" else "lost")


def test_the_best_comes_first_and_what_failed_last(tmp_path: Path) -> None:
    trials = [trial(1, 0.5), trial(2, 9, "failed"), Trial({}, "finished", {"y": 0.4})]
    trials += [trial(3, 0.9, "stopped"), trial(4, math.nan), trial(5, 0.6)]
    result = make(tmp_path, trials)
    assert [t.setting.get("optim.lr") for t in result.trials] == [3, 5, 1, None, 4, 2]
    assert result.best.setting["optim.lr"] == 3
    assert result.is_better
    assert result.failed == 1
    assert headline(result).startswith("best y 0.9 at lr=3, freeze=[], batch_size=8; 0.4 with the")
    lines = table(result).splitlines()
    assert lines[0].split() == ["lr", "freeze", "batch_size", "y"]
    assert lines[1].split() == ["1", "(stopped)", "3", "[]", "8", "0.9"]
    assert lines[-1].split() == ["defaults", "5e-05", "[]", "32", "0.4"]

    write(result, tmp_path)
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["optim.lr"] for row in rows] == [3, 5, 1, None, 4, 2]
    assert rows[-1]["error"] == "lost"
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# y 0.9; default settings 0.4 (trial ")
    assert yaml.safe_load(text) == {
        "optim": {"lr": 3},
        "model": {"freeze": []},
        "training": {"batch_size": 8},
    }
    # The others are comments, so that the file can be used for other data.
    assert "# all trials of vlray train had these options:\n#   corpus: vqa:train\n" in text
    assert "#     epochs: 2.0\n" in text


def test_where_all_failed_there_is_no_best_and_no_picture(tmp_path: Path) -> None:
    result = make(tmp_path, [trial(1, 1, "failed"), Trial({}, "failed")])
    write(result, tmp_path)
    assert result.best is None
    assert not (tmp_path / "best.yaml").exists()
    assert draw(result, tmp_path) == []
    assert headline(result) == "no trial has y"


def test_what_is_no_better_than_the_defaults_is_said(tmp_path: Path) -> None:
    result = make(tmp_path, [trial(1, 0.4), Trial({}, "finished", {"y": 0.4})])
    assert not result.is_better


def test_pictures_are_drawn_of_numbers_words_and_lists(tmp_path: Path) -> None:
    trials = [trial(10.0**n, n / 9, recall=n / 10, boxes=10 + n) for n in range(-3, 4)]
    trials.append(Trial({}, "finished", {"y": 0.1, "recall": 0.1, "boxes": 30}))
    written = draw(make(tmp_path, trials), tmp_path)
    assert [path.name for path in written] == ["objective.png", "pareto.png"]
    for path in written:
        with Image.open(path) as picture:
            colours = picture.convert("RGB").getcolors(1 << 20)
        assert len(colours) > 50


@given(
    st.lists(st.tuples(st.integers(0, 20).map(float), st.integers(0, 20).map(float)), min_size=1)
)
def test_no_point_lies_above_the_front(points: list[tuple[float, float]]) -> None:
    line = front(points)
    assert set(line) <= set(points)
    for boxes, recall in points:
        assert any(b <= boxes and r >= recall for b, r in line)
    for one in line:
        assert not any(o != one and o[0] <= one[0] and o[1] >= one[1] for o in points)


@pytest.mark.parametrize(
    ("name", "mode", "wanted"),
    [
        ("ar@36", "auto", "max"),
        ("boxes", "auto", "min"),
        ("boxes", "max", "max"),
        ("loss", "auto", "min"),
        ("loss/mlm", "auto", "min"),
        ("downstream/loss", "auto", "min"),
        ("downstream", "auto", "max"),
        ("exact match", "min", "min"),
    ],
)
def test_which_end_is_the_better_one(name: str, mode: str, wanted: str) -> None:
    assert make_objective(name, mode).mode == wanted


def test_anything_beats_what_is_not_a_number() -> None:
    objective = Objective("y", "max")
    assert objective.beats(-9, math.nan)
    assert not objective.beats(math.nan, -9)
    assert not objective.beats(math.nan, math.nan)
    assert objective.key(1) < objective.key(0) < objective.key(math.nan)
