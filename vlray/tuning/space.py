"""The search space: the values to try for each option, parsed from ``OPTION=VALUES``."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from vlray.settings.json_value import JsonValue
from vlray.settings.options import Path, options_of
from vlray.settings.wording import plain_message
from vlray.tuning.tuned import Setting, Tuned

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:/(\d+))?(/log)?")
FORMS = "pass values (0.1,0.2), a number of values in a range (0.3..0.9/7) or a range (0.3..0.9)"


@dataclass(frozen=True)
class Choices:
    """A list of values, in the given order."""

    values: tuple[JsonValue, ...]

    def draw(self, rng: random.Random) -> JsonValue:
        """Draw one of the values uniformly."""
        return rng.choice(self.values)


@dataclass(frozen=True)
class Range:
    """A range of numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    is_int: bool
    is_log: bool

    def draw(self, rng: random.Random) -> float:
        """Draw a number, uniformly on a linear or logarithmic scale."""
        if self.is_log:
            return self.settle(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.settle(
            rng.randint(int(self.low), int(self.high))
            if self.is_int
            else rng.uniform(self.low, self.high)
        )

    def settle(self, value: float) -> float:
        """Round a number to an integer or to four significant digits, and clip it to the range."""
        rounded = round(value) if self.is_int else float(f"{value:.4g}")
        return min(max(rounded, self.low), self.high)


Domain = Choices | Range
Space = Mapping[str, Domain]
"""Values to try for each searched option, keyed by dotted name."""


def read_space(entries: Mapping[str, str], tuned: Tuned) -> dict[str, Domain]:
    """Parse and check the search space.

    Args:
        entries: Text of each option's values, keyed by the full or short name of the option.
        tuned: The command whose options are searched.

    Raises:
        ValueError: An option is unknown or cannot be searched, or a value is invalid.
    """
    if not entries:
        raise ValueError(
            "nothing is searched; pass options and values, such as --space nms_thresh=0.3..0.9/7"
        )
    space: dict[str, Domain] = {}
    for key, text in entries.items():
        path = tuned.option(key)
        name = ".".join(path)
        if name in space:
            raise ValueError(f"--space has {name} twice; pass all its values in one entry")
        space[name] = _domain(key, text, path, tuned)
    return space


def _domain(key: str, text: str, path: Path, tuned: Tuned) -> Domain:
    if not (match := _RANGE.fullmatch(text.strip())):
        values = [_validate(key, value, path, tuned) for value in _parse_list(key, text)]
        # Remove repetitions, unless the values are lists, which cannot be keys.
        return Choices(tuple(dict.fromkeys(values) if _can_be_keys(values) else values))
    low, high, count, log = match.groups()
    ends = [_validate(key, end, path, tuned) for end in (low, high)]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError(f"--space {key}={text}: {'.'.join(path)} is not a number; list its values")
    if ends[0] >= ends[1]:
        raise ValueError(f"--space {key}={text} is empty: {low} is not below {high}")
    if log and ends[0] <= 0:
        raise ValueError(f"--space {key}={text}: /log needs numbers above 0")
    whole = Range(ends[0], ends[1], all(isinstance(end, int) for end in ends), bool(log))
    if count is None:
        return whole
    if int(count) < 2:
        raise ValueError(f"--space {key}={text}: a range needs at least two values; {FORMS}")
    # Rounding to integers may repeat values, which dict.fromkeys() removes.
    return Choices(tuple(dict.fromkeys(_evenly_spaced(whole, int(count)))))


def _parse_list(key: str, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--space {key}={text} is not a YAML list: {error}") from error
    else:
        values = [part.strip() for part in text.split(",") if part.strip()]
    if not values:
        raise ValueError(f"--space {key}={text} has no values; {FORMS}")
    return list(values)


def _validate(key: str, value: Any, path: Path, tuned: Tuned) -> Any:
    """Validate a value by the option's type, and return the value in plain types."""
    field = options_of(tuned.cls).get(path)
    if field is None:  # an entry of a mapping, which has no type to validate by
        return yaml.safe_load(value) if isinstance(value, str) else value
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[field.annotation, field]))
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        raise ValueError(
            f"--space {key}: {value!r} is not a valid value of {'.'.join(path)}: "
            f"{plain_message(error.errors()[0]['msg'])}"
        ) from error


def _can_be_keys(values: Sequence[object]) -> bool:
    return all(isinstance(value, str | int | float | bool | None) for value in values)


def _evenly_spaced(whole: Range, count: int) -> Iterator[float]:
    """Yield ``count`` values that are evenly spaced on a linear or logarithmic scale."""
    low, high = (math.log(end) if whole.is_log else end for end in (whole.low, whole.high))
    for index in range(count):
        value = low + (high - low) * index / (count - 1)
        # Six digits, to avoid values such as 0.30000000000000004.
        value = float(f"{math.exp(value) if whole.is_log else value:.6g}")
        yield round(value) if whole.is_int else value


def grid(space: Space) -> Iterator[Setting]:
    """Yield every combination of the options' values.

    Raises:
        ValueError: An option has a range instead of a list of values.
    """
    for name, domain in space.items():
        if isinstance(domain, Range):
            raise ValueError(
                f"{name} is a range from {domain.low:g} to {domain.high:g}, but a grid needs a "
                f"number of values (--space {name}={domain.low:g}..{domain.high:g}/5); or pass "
                "--search random or optuna, and --trials N"
            )
    choices = [domain.values for domain in space.values() if isinstance(domain, Choices)]
    for values in itertools.product(*choices):
        yield dict(zip(space, values, strict=True))


def size(space: Space) -> float:
    """Return the number of settings in the space; infinity if an option has a range."""
    return math.prod(
        len(domain.values) if isinstance(domain, Choices) else math.inf for domain in space.values()
    )


def draw(space: Space, rng: random.Random) -> Iterator[Setting]:
    """Yield random settings endlessly; they may repeat."""
    while True:
        yield {name: domain.draw(rng) for name, domain in space.items()}
