"""Trials through Ray Tune, in real processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from vlray.settings.environment import EnvironmentSection
from vlray.tuning.ledger import Ledger, Trial
from vlray.tuning.objective import Objective
from vlray.tuning.search import Search
from vlray.tuning.space import Choices, Range
from vlray.tuning.work import Resources

MAX = Objective("y", "max")
Rule = Callable[..., Mapping[str, float]]


class Made:
    """A rule as the function of trials."""

    def __init__(self, rule: Rule, *, reuse: bool = True) -> None:
        self._rule, self.reuse = rule, reuse

    def __call__(self, setting, report) -> Mapping[str, float]:
        return self._rule(setting, report)


@pytest.fixture
def search(ray_cluster: str, tmp_path: Path) -> Callable[..., Search]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["Made"]))

    def make(rule: Rule, *, asha: bool = False, reuse: bool = True) -> Search:
        return Search(
            function=Made(rule, reuse=reuse),
            objective=MAX,
            resources=Resources(1, 0, 1 if asha else 2),
            folder=tmp_path / "run",
            asha=asha,
            progress="none",
            env=EnvironmentSection(),
        )

    yield make
    cloudpickle.unregister_pickle_by_value(__import__(__name__, fromlist=["Made"]))


def test_what_fails_or_is_killed_is_kept_as_such_and_the_others_go_on(search, tmp_path) -> None:
    def rule(setting, report):
        if setting["a"] == 1:
            raise ValueError("one is none")
        if setting["a"] == 2:
            os.kill(os.getpid(), 9)
        return {"y": setting["a"] ** 2, "z": 1.0}

    ledger = Ledger.open(tmp_path)
    search(rule).try_all([{"a": number} for number in range(5)], ledger)
    assert Ledger.open(tmp_path).trials == ledger.trials
    states = {trial.setting["a"]: trial.state for trial in ledger.trials.values()}
    assert states == {0: "finished", 1: "failed", 2: "failed", 3: "finished", 4: "finished"}
    by = {trial.setting["a"]: trial for trial in ledger.trials.values()}
    assert by[1].error == "ValueError: one is none"
    assert "died" in by[2].error.lower()
    assert by[4].metrics == {"y": 16, "z": 1}


def test_a_figure_that_there_is_not_fails_with_the_names(search, tmp_path) -> None:
    ledger = Ledger.open(tmp_path)
    search(lambda setting, report: {"loss": 1.0, "x": 2.0}).try_all([{"a": 1}], ledger)
    (trial,) = ledger.trials.values()
    assert trial.state == "failed"
    assert "the trial has no metric 'y'; pass one of loss, x" in trial.error


def test_asha_ends_what_is_worse_but_never_the_one_without_a_search(search, tmp_path) -> None:
    def rule(setting, report):
        level = setting.get("a", 0)
        for step in range(1, 10):
            report({"y": level * step})
        return {"y": level * 9.0}

    ledger = Ledger.open(tmp_path)
    settings = [{}, {"a": 9}, {"a": 8}, {"a": 1}, {"a": 2}]
    search(rule, asha=True, reuse=False).try_all(settings, ledger)
    by = {trial.setting.get("a", 0): trial for trial in ledger.trials.values()}
    assert [by[a].state for a in (0, 9)] == ["finished", "finished"]
    assert len(by[0].evaluations) == len(by[9].evaluations) == 9
    for a in (1, 2):
        assert by[a].state == "stopped"
        assert by[a].metrics["y"] == max(by[a].evaluations) < 9 * a


def test_optuna_finds_a_peak_and_repeats_nothing(search, tmp_path) -> None:
    space = {
        "x": Range(0, 1, is_int=False, is_log=False),
        "kind": Choices(("a", "b")),
        "n": Choices((1, 2, 4)),
    }

    def invalid_reason(setting) -> str:
        return "b wants more" if setting["kind"] == "b" and setting["n"] == 1 else ""

    def rule(setting, report):
        assert not (setting["kind"] == "b" and setting["n"] == 1)
        return {"y": -((setting["x"] - 0.7) ** 2) + (setting["kind"] == "b") + setting["n"] / 4}

    ledger = Ledger.open(tmp_path)
    known = {"x": 0.7, "kind": "b", "n": 2}
    ledger.add(Trial(known, "finished", {"y": 1.5}))
    search(rule).try_suggested(space, 25, 0, invalid_reason, ledger)
    assert len(ledger.trials) == 26  # an id each: no setting twice
    assert {trial.state for trial in ledger.trials.values()} == {"finished"}
    best = ledger.best(MAX)
    assert (best.setting["kind"], best.setting["n"]) == ("b", 4)
    assert abs(best.setting["x"] - 0.7) < 0.2


def test_optuna_ends_where_every_setting_is_known(search, tmp_path) -> None:
    ledger = Ledger.open(tmp_path)
    space = {"n": Choices((1, 2, 3))}
    search(lambda setting, report: {"y": setting["n"]}).try_suggested(
        space, 10, 0, lambda setting: "", ledger
    )
    assert sorted(trial.setting["n"] for trial in ledger.trials.values()) == [1, 2, 3]
