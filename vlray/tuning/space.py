"""What is searched: the values of each option, read from ``OPTION=VALUES`` and checked."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from vlray.settings.options import Path, options_of
from vlray.settings.wording import plain_message
from vlray.tuning.tuned import Setting, Tuned

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:/(\d+))?(/log)?")
FORMS = "give values (0.1,0.2), a number of them in a range (0.3..0.9/7) or a range (0.3..0.9)"


@dataclass(frozen=True)
class Choices:
    """These values, in their order."""

    values: tuple[Any, ...]

    def draw(self, rng: random.Random) -> Any:
        """Give one of them."""
        return rng.choice(self.values)


@dataclass(frozen=True)
class Range:
    """Any number between two, both included."""

    low: float
    high: float
    is_int: bool
    is_log: bool

    def draw(self, rng: random.Random) -> float:
        """Give one."""
        if self.is_log:
            return self.settle(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.settle(
            rng.randint(int(self.low), int(self.high))
            if self.is_int
            else rng.uniform(self.low, self.high)
        )

    def settle(self, value: float) -> float:
        """Bring a number to four digits, or to a whole number, within the ends."""
        rounded = round(value) if self.is_int else float(f"{value:.4g}")
        return min(max(rounded, self.low), self.high)


Domain = Choices | Range
Space = Mapping[str, Domain]
"""By the dotted name of the option."""


def read_space(given: Mapping[str, str], tuned: Tuned) -> dict[str, Domain]:
    """Find the options, and read and check their values.

    Raises:
        ValueError: An option is unknown or none to be searched, or refuses a value.
    """
    if not given:
        raise ValueError(
            "nothing is searched; say what by --space, such as --space nms_thresh=0.3..0.9/7"
        )
    space: dict[str, Domain] = {}
    for key, text in given.items():
        path = tuned.option(key)
        name = ".".join(path)
        if name in space:
            raise ValueError(f"--space gives {name} twice; give all its values at once")
        space[name] = _domain(key, text, path, tuned)
    return space


def _domain(key: str, text: str, path: Path, tuned: Tuned) -> Domain:
    if not (match := _RANGE.fullmatch(text.strip())):
        values = [_checked(key, value, path, tuned) for value in _listed(key, text)]
        return Choices(tuple(dict.fromkeys(values) if _can_be_keys(values) else values))
    low, high, count, log = match.groups()
    ends = [_checked(key, end, path, tuned) for end in (low, high)]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError(f"--space {key}={text}: {'.'.join(path)} is no number; give values")
    if ends[0] >= ends[1]:
        raise ValueError(f"--space {key}={text} is empty: {low} is not below {high}")
    if log and ends[0] <= 0:
        raise ValueError(f"--space {key}={text}: a logarithm wants numbers above 0")
    whole = Range(ends[0], ends[1], all(isinstance(end, int) for end in ends), bool(log))
    if count is None:
        return whole
    if int(count) < 2:
        raise ValueError(f"--space {key}={text}: a range has two values at least; {FORMS}")
    return Choices(tuple(dict.fromkeys(_spread(whole, int(count)))))


def _listed(key: str, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--space {key}={text} is no YAML list: {error}") from error
    else:
        values = [part.strip() for part in text.split(",") if part.strip()]
    if not values:
        raise ValueError(f"--space {key}={text} has no values; {FORMS}")
    return list(values)


def _checked(key: str, value: Any, path: Path, tuned: Tuned) -> Any:
    """Let the option's own type read a value, and give it in plain types."""
    field = options_of(tuned.cls).get(path)
    if field is None:  # an entry of a mapping
        return yaml.safe_load(value) if isinstance(value, str) else value
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[field.annotation, field]))
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        raise ValueError(
            f"--space {key}: {value!r} is no value of {'.'.join(path)}: "
            f"{plain_message(error.errors()[0]['msg'])}"
        ) from error


def _can_be_keys(values: list[Any]) -> bool:
    return all(isinstance(value, str | int | float | bool | None) for value in values)


def _spread(whole: Range, count: int) -> Iterator[float]:
    """Give values of even distance, or of even ratio."""
    low, high = (math.log(end) if whole.is_log else end for end in (whole.low, whole.high))
    for place in range(count):
        value = low + (high - low) * place / (count - 1)
        value = float(f"{math.exp(value) if whole.is_log else value:.6g}")
        yield round(value) if whole.is_int else value


def grid(space: Space) -> Iterator[Setting]:
    """Give every setting.

    Raises:
        ValueError: A range has no values to be gone through.
    """
    for name, domain in space.items():
        if isinstance(domain, Range):
            raise ValueError(
                f"{name} is any number between {domain.low:g} and {domain.high:g}, which no grid "
                f"holds; say how many (--space {name}={domain.low:g}..{domain.high:g}/5), or give "
                "--search random or optuna and --trials N"
            )
    choices = [domain.values for domain in space.values() if isinstance(domain, Choices)]
    for values in itertools.product(*choices):
        yield dict(zip(space, values, strict=True))


def size(space: Space) -> float:
    """Count the settings; a range has infinitely many."""
    return math.prod(
        len(domain.values) if isinstance(domain, Choices) else math.inf for domain in space.values()
    )


def draw(space: Space, rng: random.Random) -> Iterator[Setting]:
    """Give settings at random, for ever."""
    while True:
        yield {name: domain.draw(rng) for name, domain in space.items()}
