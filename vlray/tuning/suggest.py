"""Settings near those that were good: Optuna's TPE, which is told all that is known already."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from vlray.tuning import ledger
from vlray.tuning.objective import Objective
from vlray.tuning.plan import TRIES, Check
from vlray.tuning.space import Choices, Domain, Space
from vlray.tuning.tuned import Setting

log = logging.getLogger("vlray.tuning")


class Suggest(Searcher):  # type: ignore[misc] # Ray's has no types
    """Asks Optuna for settings; impossible ones, and those that are known, are not tried."""

    def __init__(
        self,
        space: Space,
        objective: Objective,
        seed: int,
        why_not: Check,
        known: Sequence[ledger.Trial],
    ) -> None:
        """Begin.

        Args:
            space: What is searched.
            objective: What is to be best.
            seed: Of what is drawn.
            why_not: Says why a setting is impossible.
            known: Trials of an earlier run.
        """
        super().__init__(metric="objective", mode=objective.mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._why_not = space, why_not
        self._distributions = {name: _distribution(domain) for name, domain in space.items()}
        self._study = optuna.create_study(
            direction="maximize" if objective.mode == "max" else "minimize",
            # A trial that is under way counts as bad, so that the next one is tried elsewhere.
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        self._asked: dict[str, optuna.Trial] = {}
        self._values: dict[str, float | None] = {}
        for trial in known:
            value = trial.value(objective.name)
            if trial.setting and not math.isnan(value):
                self._values[trial.id] = value
                self._study.add_trial(self._known(trial.setting, value))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Give the next setting, or say that there is none."""
        for _ in range(TRIES):
            asked = self._study.ask(self._distributions)
            setting = self._setting(asked)
            name = ledger.trial_id(setting)
            if name in self._values:
                self._tell(asked, self._values[name])
            elif self._why_not(setting):
                self._tell(asked, None)
            else:
                self._values[name] = None
                self._asked[trial_id] = asked
                return {"setting": setting}
        return Searcher.FINISHED  # type: ignore[no-any-return] # as above

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn from a trial that has ended."""
        asked = self._asked.pop(trial_id)
        value = None if error or not result else result.get("objective")
        if result and value is not None:
            self._values[ledger.trial_id(self._setting(asked))] = value
        self._tell(asked, value)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: ``trials.jsonl`` has it."""

    def restore(self, checkpoint_path: str) -> None:
        """As `save`."""

    def _setting(self, asked: optuna.Trial) -> Setting:
        return {name: _value(self._space[name], asked.params[name]) for name in self._space}

    def _tell(self, asked: optuna.Trial, value: float | None) -> None:
        is_known = value is not None and math.isfinite(value)
        state = TrialState.COMPLETE if is_known else TrialState.FAIL
        self._study.tell(asked, value if is_known else None, state=state)

    def _known(self, setting: Setting, value: float) -> optuna.trial.FrozenTrial:
        params = {name: _param(self._space[name], setting[name]) for name in self._space}
        return create_trial(params=params, distributions=self._distributions, value=value)


def _distribution(domain: Domain) -> BaseDistribution:
    """Describe a domain to Optuna; choices go by their place, so that they may be anything."""
    if isinstance(domain, Choices):
        places = len(domain.values)
        if _is_ordered(domain):
            return IntDistribution(0, places - 1)
        return CategoricalDistribution(tuple(range(places)))
    if domain.is_int:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.is_log)
    return FloatDistribution(domain.low, domain.high, log=domain.is_log)


def _is_ordered(domain: Choices) -> bool:
    values = domain.values
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return False
    return list(values) == sorted(values)


def _value(domain: Domain, param: Any) -> Any:
    return domain.values[param] if isinstance(domain, Choices) else domain.settle(param)


def _param(domain: Domain, value: Any) -> Any:
    return domain.values.index(value) if isinstance(domain, Choices) else value
