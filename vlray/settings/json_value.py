"""The type of values that JSON can hold, for what vlray writes and reads as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
"""A JSON value. Tuples count as lists. Unlike pydantic's type of this name, it is covariant:
``dict[str, int]`` is one."""

JsonObject: TypeAlias = "dict[str, JsonValue]"
"""A JSON object under construction, or one that was read."""
