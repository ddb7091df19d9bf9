"""The settings to try: all of a grid, random ones, or those that Optuna suggests."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vlray.config.tune import TuneConfig
from vlray.tuning import space as spaces
from vlray.tuning.ledger import trial_id
from vlray.tuning.tuned import Setting

MOST = 100_000
"""Maximum size of a grid; a larger one is most likely a mistake."""
TRIES = 1_000
"""Number of consecutive draws without a new setting after which the space counts as exhausted."""

log = logging.getLogger("vlray.tuning")

Check = Callable[[Setting], str]
"""Returns why a setting is invalid; empty if it is valid."""


@dataclass(frozen=True)
class TrialPlan:
    """The trials of a search, in addition to the one with the default settings."""

    settings: tuple[Setting, ...]
    """Settings to try; empty if Optuna chooses them during the search."""

    trials: int
    """Number of trials."""


def make_plan(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    """Choose the settings to try.

    Args:
        config: Options of the search.
        space: Values of each searched option.
        invalid_reason: Returns why the command refuses a setting.

    Raises:
        ValueError: The options of the search contradict each other, or no setting is valid.
    """
    if config.search == "grid":
        return _grid(config, space, invalid_reason)
    if not config.trials:
        raise ValueError(f"--search {config.search} needs a number of settings: give --trials N")
    if config.search == "random":
        return _random(config, space, invalid_reason)
    _check_any_valid(space, config.seed, invalid_reason)
    return TrialPlan((), int(min(config.trials, spaces.size(space))))


def _grid(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    if (count := spaces.size(space)) > MOST and count < float("inf"):
        raise ValueError(
            f"the grid has {count:,.0f} settings; give fewer values, or --search random --trials N"
        )
    reasons: Counter[str] = Counter()
    settings = []
    for setting in spaces.grid(space):
        if reason := invalid_reason(setting):
            reasons[reason] += 1
        else:
            settings.append(setting)
    _report_invalid(reasons, len(settings))
    if config.trials and config.trials < len(settings):
        raise ValueError(
            f"the grid has {len(settings):,} settings, more than trials={config.trials:,}; remove "
            "--trials to try all of them, or give --search random"
        )
    return TrialPlan(tuple(settings), len(settings))


def _random(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    # With the same seed, more trials begin with the same settings.
    rng = random.Random(config.seed)
    reasons: Counter[str] = Counter()
    settings: dict[str, Setting] = {}
    misses = 0  # consecutive draws without a new setting
    for setting in spaces.draw(space, rng):
        name = trial_id(setting)
        misses += 1
        if name in settings:
            pass
        elif reason := invalid_reason(setting):
            reasons[reason] += 1
        else:
            settings[name] = setting
            misses = 0
        if len(settings) == config.trials or misses == TRIES:
            break
    _report_invalid(reasons, len(settings))
    if len(settings) < config.trials:
        log.warning(
            "only %s different settings were found, fewer than trials=%s",
            f"{len(settings):,}",
            f"{config.trials:,}",
        )
    return TrialPlan(tuple(settings.values()), len(settings))


def _check_any_valid(space: spaces.Space, seed: int, invalid_reason: Check) -> None:
    reasons: Counter[str] = Counter()
    for tries, setting in enumerate(spaces.draw(space, random.Random(seed))):
        if not (reason := invalid_reason(setting)):
            return
        reasons[reason] += 1
        if tries == TRIES:
            break
    _report_invalid(reasons, 0)


def _report_invalid(reasons: Counter[str], valid: int) -> None:
    """Log the number of invalid settings, with the most frequent reason.

    Raises:
        ValueError: No setting is valid.
    """
    if not reasons:
        return
    (reason, _), *others = reasons.most_common()
    more = f" (and {len(others)} other reasons)" if others else ""
    if not valid:
        raise ValueError(f"no setting of the space is valid: {reason}{more}")
    log.warning(
        "%s invalid settings are left out: %s%s",
        f"{reasons.total():,}",
        reason,
        more,
    )
