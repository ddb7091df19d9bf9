"""Settings suggested by Optuna's TPE sampler, as a Ray Tune searcher."""

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


class OptunaSearcher(Searcher):  # type: ignore[misc] # Ray's has no types
    """Suggests settings with Optuna, but skips those that are invalid or already tried."""

    def __init__(
        self,
        space: Space,
        objective: Objective,
        seed: int,
        invalid_reason: Check,
        done: Sequence[ledger.Trial],
    ) -> None:
        """Create the Optuna study, and add the trials of earlier runs to it.

        Args:
            space: Values of each searched option.
            objective: The metric to optimize.
            seed: Random seed of the sampler.
            invalid_reason: Returns why a setting is invalid; an empty text if it is valid.
            done: Trials of earlier runs.
        """
        super().__init__(metric="objective", mode=objective.mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._why_not = space, invalid_reason
        self._distributions = {name: _distribution(domain) for name, domain in space.items()}
        self._study = optuna.create_study(
            direction="maximize" if objective.mode == "max" else "minimize",
            # constant_liar counts running trials as bad, so that concurrent trials do not cluster.
            sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        )
        self._asked: dict[str, optuna.Trial] = {}
        self._values: dict[str, float | None] = {}
        for trial in done:
            # The trial with the default settings has an empty setting, which Optuna cannot use.
            value = trial.value(objective.name)
            if trial.setting and not math.isnan(value):
                self._values[trial.id] = value
                self._study.add_trial(self._frozen(trial.setting, value))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next setting, or `Searcher.FINISHED` if no new one is found."""
        for _ in range(TRIES):
            asked = self._study.ask(self._distributions)
            setting = self._setting(asked)
            name = ledger.trial_id(setting)
            # If Optuna suggests a setting again, return the known value instead of repeating it.
            if name in self._values:
                self._tell(asked, self._values[name])
            elif self._why_not(setting):
                self._tell(asked, None)
            else:
                self._values[name] = None  # the trial is running: no value yet
                self._asked[trial_id] = asked
                return {"setting": setting}
        return Searcher.FINISHED  # type: ignore[no-any-return] # Ray's has no types

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass a trial's result to Optuna."""
        asked = self._asked.pop(trial_id)
        value = None if error or not result else result.get("objective")
        # A failed trial keeps the value None, so suggest() does not return its setting again.
        if result and value is not None:
            self._values[ledger.trial_id(self._setting(asked))] = value
        self._tell(asked, value)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger has all trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, as in `save`."""

    def _setting(self, asked: optuna.Trial) -> Setting:
        return {name: _value(self._space[name], asked.params[name]) for name in self._space}

    def _tell(self, asked: optuna.Trial, value: float | None) -> None:
        is_measured = value is not None and math.isfinite(value)
        state = TrialState.COMPLETE if is_measured else TrialState.FAIL
        self._study.tell(asked, value if is_measured else None, state=state)

    def _frozen(self, setting: Setting, value: float) -> optuna.trial.FrozenTrial:
        params = {name: _param(self._space[name], setting[name]) for name in self._space}
        return create_trial(params=params, distributions=self._distributions, value=value)


def _distribution(domain: Domain) -> BaseDistribution:
    """Convert a domain to an Optuna distribution.

    Choices become indices, because their values may have types that Optuna refuses.
    """
    if isinstance(domain, Choices):
        count = len(domain.values)
        # Indices of sorted numbers form an integer distribution: TPE can make use of the order.
        if _is_ordered(domain):
            return IntDistribution(0, count - 1)
        return CategoricalDistribution(tuple(range(count)))
    if domain.is_int:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.is_log)
    return FloatDistribution(domain.low, domain.high, log=domain.is_log)


def _is_ordered(domain: Choices) -> bool:
    numbers = [v for v in domain.values if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(numbers) == len(domain.values) and numbers == sorted(numbers)


def _value(domain: Domain, param: Any) -> Any:
    return domain.values[param] if isinstance(domain, Choices) else domain.settle(param)


def _param(domain: Domain, value: Any) -> Any:
    return domain.values.index(value) if isinstance(domain, Choices) else value
