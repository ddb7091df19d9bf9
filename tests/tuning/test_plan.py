"""Which settings are tried."""

from __future__ import annotations

import logging

import pytest

from vlray.config.tune import TuneConfig
from vlray.tuning.plan import make_plan
from vlray.tuning.space import Choices, Range
from vlray.tuning.tuned import Setting

SPACE = {"a": Choices((1, 2, 3)), "b": Choices((1, 2, 3))}


def rising(setting: Setting) -> str:
    return "" if setting["a"] <= setting["b"] else f"a={setting['a']} is above b"


def test_impossible_settings_of_a_grid_are_left_out_and_said(caplog) -> None:
    with caplog.at_level(logging.WARNING, "vlray.tuning"):
        plan = make_plan(TuneConfig(), SPACE, rising)
    assert plan.trials == len(plan.settings) == 6
    assert not any(map(rising, plan.settings))
    assert "3 invalid settings are left out: a=3 is above b" in caplog.text


def test_more_trials_at_random_begin_with_the_same_ones() -> None:
    few, many = (
        make_plan(TuneConfig(search="random", trials=n, seed=4), SPACE, rising) for n in (3, 5)
    )
    assert few.settings == many.settings[:3]
    assert len({str(setting) for setting in many.settings}) == 5
    other = make_plan(TuneConfig(search="random", trials=3, seed=5), SPACE, rising)
    assert other.settings != few.settings


def test_a_small_space_ends_a_random_search(caplog) -> None:
    plan = make_plan(TuneConfig(search="random", trials=50), SPACE, rising)
    assert plan.trials == 6
    assert "only 6 different settings were found, fewer than trials=50" in caplog.text


@pytest.mark.parametrize("search", ["grid", "random", "optuna"])
def test_a_space_without_a_possible_setting_is_refused(search) -> None:
    config = TuneConfig(search=search, trials=9 if search != "grid" else 0)
    with pytest.raises(ValueError, match="no setting of the space is valid: never"):
        make_plan(config, SPACE, lambda setting: "never")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search": "random"}, "--search random needs a number of settings: pass --trials N"),
        ({"search": "optuna"}, "--search optuna needs a number of settings: pass --trials N"),
        ({"trials": 4}, "the grid has 6 settings, more than trials=4"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        make_plan(TuneConfig(**options), SPACE, rising)


def test_a_grid_that_nobody_wants_is_refused() -> None:
    wide = {name: Choices(tuple(range(100))) for name in "abc"}
    with pytest.raises(ValueError, match="the grid has 1,000,000 settings"):
        make_plan(TuneConfig(), wide, lambda setting: "")


def test_a_suggesting_search_stops_where_the_space_ends() -> None:
    config = TuneConfig(search="optuna", trials=50)
    assert make_plan(config, SPACE, rising).trials == 9
    space = {"a": Range(0, 1, is_int=False, is_log=False)}
    assert make_plan(config, space, lambda setting: "").trials == 50
