"""Label selectors: which nodes of a mixed cluster may be used."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONDITION = re.compile(r"(?P<negated>!?)(?:in\((?P<list>[^()!]+)\)|(?P<value>[^()!,\s]+))")


def check_selector(selector: Mapping[str, str]) -> Mapping[str, str]:
    """Return a label selector unchanged if Ray understands it.

    Raises:
        ValueError: A condition is not ``VALUE``, ``!VALUE``, ``in(A,B)`` or ``!in(A,B)``.
    """
    for label, condition in selector.items():
        if not label or not _CONDITION.fullmatch(condition):
            raise ValueError(
                f"{label}={condition} is not a label selector; write LABEL=VALUE, LABEL=!VALUE, "
                "LABEL=in(A,B) or LABEL=!in(A,B)"
            )
    return selector


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a node's labels fulfill all conditions of a selector.

    As in Ray, a node without the label fulfills negated conditions only.
    """
    for label, condition in selector.items():
        parts = _CONDITION.fullmatch(condition)
        assert parts is not None  # see `check_selector`
        values = [value.strip() for value in (parts["list"] or parts["value"]).split(",")]
        if (labels.get(label) in values) == bool(parts["negated"]):
            return False
    return True
