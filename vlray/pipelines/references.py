"""``$NAME`` in the settings of a pipeline's steps: an earlier step's output, or a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlray.settings.options import nearest

_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z][\w-]*))")


@dataclass(frozen=True)
class References:
    """Puts into settings what their ``$NAME`` and ``${NAME}`` stand for.

    Attributes:
        known: Values, and the outputs of earlier steps; it grows with the steps.
        steps: Names of all steps.
        used: Names that were filled in.
    """

    known: Mapping[str, Any]
    steps: Collection[str]
    used: set[str] = field(default_factory=set)

    def fill(self, value: Any) -> Any:
        """Give the same mapping, list or text with every reference filled in.

        Raises:
            ValueError: A name is unknown, or of a later step.
        """
        if isinstance(value, Mapping):
            return {key: self.fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        if not isinstance(value, str):
            return value
        if whole := _REFERENCE.fullmatch(value):
            return self._value(whole)  # in its own type: a number stays one
        return _REFERENCE.sub(lambda match: str(self._value(match)), value)

    def _value(self, match: re.Match[str]) -> Any:
        name = match[1] if match[1] is not None else match[2]
        if name in self.known:
            self.used.add(name)
            return self.known[name]
        if name in self.steps:
            raise ValueError(
                f"${name} is the output of a step that comes later (or is this one); put the step "
                f"{name} before this one"
            )
        raise ValueError(
            f"${name} is neither an earlier step nor one of values; {meant(name, self.known)}"
        )


def meant(word: str, known: Iterable[str]) -> str:
    """Say which of the known names was most likely meant, or which there are."""
    names = list(known)
    close = nearest(word, names)
    return f"did you mean {close}?" if close else f"there are {', '.join(names) or 'none'}"


def spread(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put entries that a flag gives by a dotted name into the mappings that they belong to."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = _copied(value)
    return result


def _copied(value: Any) -> Any:
    """Copy nested mappings, whose own keys may have dots in them."""
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    return value
