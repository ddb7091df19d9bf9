"""Which settings are tried: all of a grid, some at random, or those that a search asks for."""

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
"""Settings of a grid; more are a mistake."""
TRIES = 1_000
"""Draws in a row that bring nothing new."""

log = logging.getLogger("vlray.tuning")

Check = Callable[[Setting], str]
"""Says why a setting is impossible; empty: it is not."""


@dataclass(frozen=True)
class Plan:
    """What is tried, beside what the options are without a search."""

    settings: tuple[Setting, ...]
    """Empty where they are chosen one after the other."""

    trials: int


def make_plan(config: TuneConfig, space: spaces.Space, why_not: Check) -> Plan:
    """Choose the settings.

    Raises:
        ValueError: The options of the search do not go together, or no setting is possible.
    """
    if config.search == "grid":
        return _grid(config, space, why_not)
    if not config.trials:
        raise ValueError(f"search {config.search} wants to know how many settings: --trials N")
    if config.search == "random":
        return _random(config, space, why_not)
    _first_possible(space, config.seed, why_not)
    return Plan((), int(min(config.trials, spaces.size(space))))


def _grid(config: TuneConfig, space: spaces.Space, why_not: Check) -> Plan:
    if (count := spaces.size(space)) > MOST and count < float("inf"):
        raise ValueError(
            f"the grid has {count:,.0f} settings; give fewer values, or --search random --trials N"
        )
    reasons: Counter[str] = Counter()
    settings = []
    for setting in spaces.grid(space):
        if reason := why_not(setting):
            reasons[reason] += 1
        else:
            settings.append(setting)
    _say_left_out(reasons, len(settings))
    if config.trials and config.trials < len(settings):
        raise ValueError(
            f"the grid has {len(settings):,} settings, more than trials={config.trials:,}; leave "
            "--trials away to try all of them, or give --search random"
        )
    return Plan(tuple(settings), len(settings))


def _random(config: TuneConfig, space: spaces.Space, why_not: Check) -> Plan:
    rng = random.Random(config.seed)
    reasons: Counter[str] = Counter()
    found: dict[str, Setting] = {}
    fruitless = 0
    for setting in spaces.draw(space, rng):
        name = trial_id(setting)
        fruitless += 1
        if name in found:
            pass
        elif reason := why_not(setting):
            reasons[reason] += 1
        else:
            found[name] = setting
            fruitless = 0
        if len(found) == config.trials or fruitless == TRIES:
            break
    _say_left_out(reasons, len(found))
    if len(found) < config.trials:
        log.warning("the space has no more than %s settings", f"{len(found):,}")
    return Plan(tuple(found.values()), len(found))


def _first_possible(space: spaces.Space, seed: int, why_not: Check) -> None:
    reasons: Counter[str] = Counter()
    for tries, setting in enumerate(spaces.draw(space, random.Random(seed))):
        if not (reason := why_not(setting)):
            return
        reasons[reason] += 1
        if tries == TRIES:
            break
    _say_left_out(reasons, 0)


def _say_left_out(reasons: Counter[str], kept: int) -> None:
    """Say which settings are impossible.

    Raises:
        ValueError: All of them are.
    """
    if not reasons:
        return
    (reason, _), *others = reasons.most_common()
    more = f"; and {len(others)} reasons like it" if others else ""
    if not kept:
        raise ValueError(f"no setting of the space is possible: {reason}{more}")
    log.warning(
        "%s settings are left out, for they are impossible: %s%s",
        f"{reasons.total():,}",
        reason,
        more,
    )
