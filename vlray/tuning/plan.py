"""The settings to try: a complete grid, random settings, or settings suggested by Optuna."""

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
"""Maximum number of settings in a grid; a larger grid is most likely a mistake."""
TRIES = 1_000
"""Number of consecutive draws without a new valid setting after which a search gives up."""

log = logging.getLogger("vlray.tuning")

Check = Callable[[Setting], str]
"""Function that returns why a setting is invalid; an empty text if it is valid."""


@dataclass(frozen=True)
class TrialPlan:
    """The trials of a search, not counting the trial with the default settings."""

    settings: tuple[Setting, ...]
    """Settings to try; empty if Optuna chooses them during the search."""

    trials: int
    """Number of trials."""


def make_plan(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    """Choose the settings to try.

    Args:
        config: Options of the search.
        space: Values of each searched option.
        invalid_reason: Returns why a setting is invalid; an empty text if it is valid.

    Raises:
        ValueError: The options of the search contradict each other, or no setting is valid.
    """
    if config.search == "grid":
        return _grid(config, space, invalid_reason)
    if not config.trials:
        raise ValueError(f"--search {config.search} needs a number of settings: pass --trials N")
    if config.search == "random":
        return _random(config, space, invalid_reason)
    _check_any_valid(space, config.seed, invalid_reason)
    return TrialPlan((), int(min(config.trials, spaces.size(space))))


def _grid(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    # An infinite grid has its own error message, from spaces.grid().
    if (count := spaces.size(space)) > MOST and count < float("inf"):
        raise ValueError(
            f"the grid has {count:,.0f} settings; pass fewer values, or --search random --trials N"
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
            "--trials to try all of them, or pass --search random"
        )
    return TrialPlan(tuple(settings), len(settings))


def _random(config: TuneConfig, space: spaces.Space, invalid_reason: Check) -> TrialPlan:
    # Draw from a generator of its own: with the same seed, a higher --trials adds settings to
    # those of a lower one, so a sweep can be extended.
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
    """Log the number of invalid settings and the most frequent reason.

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
