"""References ``$NAME`` in the settings of steps: the output of an earlier step, or a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlray.settings.options import nearest

_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z][\w-]*))")


@dataclass(frozen=True)
class References:
    """Replaces ``$NAME`` and ``${NAME}`` in settings.

    Attributes:
        values: Values of the pipeline and outputs of earlier steps; grows with each resolved step.
        steps: Names of all steps.
        used: Names replaced so far.
    """

    values: Mapping[str, object]
    steps: Collection[str]
    used: set[str] = field(default_factory=set)

    def fill(self, value: Any) -> Any:
        """Return the mapping, list or text with every reference replaced.

        Raises:
            ValueError: A name is unknown or belongs to a later step.
        """
        if isinstance(value, Mapping):
            return {key: self.fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if not isinstance(value, str):
            return value
        if whole := _REFERENCE.fullmatch(value):
            return self._value(whole)  # keeps the type: a number stays a number
        # Inside a longer text, every value becomes text.
        return _REFERENCE.sub(lambda match: str(self._value(match)), value)

    def _value(self, match: re.Match[str]) -> object:
        name = match[1] if match[1] is not None else match[2]
        if name in self.values:
            self.used.add(name)
            return self.values[name]
        if name in self.steps:
            raise ValueError(
                f"${name} is the output of this step or a later one; move step {name} before this "
                "step"
            )
        raise ValueError(
            f"${name} is neither an earlier step nor an entry in values; "
            f"{suggest(name, self.values)}"
        )


def suggest(word: str, choices: Iterable[str]) -> str:
    """Suggest the name that is closest to a word, or list all names."""
    names = list(choices)
    close = nearest(word, names)
    return f"did you mean {close}?" if close else f"choose from: {', '.join(names) or '(none)'}"


def expand_dotted(values: Mapping[str, object]) -> dict[str, Any]:
    """Expand dotted keys, as used by flags, into nested mappings."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        target = result
        for parent in parents:
            if not isinstance(target.get(parent), dict):
                target[parent] = {}
            target = target[parent]
        target[last] = _copied(value)
    return result


def _copied(value: object) -> object:
    """Copy nested mappings; their keys may contain dots and are not expanded."""
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    return value
