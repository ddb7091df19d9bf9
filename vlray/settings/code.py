"""Options that name code: a file alone never decides what vlray imports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from vlray.settings.base import Command
from vlray.settings.layers import Layer
from vlray.settings.options import Path, options_of
from vlray.settings.section import CODE

_SEPARATORS = re.compile(r"""[\s,'"\[\]{}()]+""")  # between the items of a list that is one text


def untrusted(cls: type[Command], layers: Iterable[Layer], how: str = "") -> Iterator[str]:
    """Yield one message for each option whose class only a file names.

    The user's own ``settings.yaml``, variables and flags may name any class. A class in another
    file is imported if a flag names it as well, or with ``--trust-code``.

    Args:
        cls: Settings class of the command.
        layers: Its layers, lowest precedence first.
        how: How to name a class, for the message. Empty: with the option's flag.
    """
    options = [path for path, field in options_of(cls).items() if CODE in field.metadata]
    chosen: dict[Path, Layer] = {}
    for layer in layers:
        for path in layer.values:
            if any(path[: len(option)] == option for option in options):
                chosen[path] = layer
    for path, layer in chosen.items():
        value = layer.values[path]
        if layer.kind == "key" and not layer.is_users and names_class(value):
            flag = how or f"pass {Layer('flag', {}).name(path)} {value} yourself, or "
            yield (
                f"{layer.spell(path)} is {value!r}, and vlray imports no code because a file names "
                f"it; if you trust that code, {flag}pass --trust-code"
            )


def names_class(value: Any) -> bool:
    """Return whether a value, or one of its items, may be ``module:Class`` or ``file.py:Class``."""
    texts = map(str, value if isinstance(value, list | tuple) else [value])
    words = (word for text in texts for word in (text, *_SEPARATORS.split(text)))
    # As in `plugins.load`. The colon of a URL is followed by a slash.
    return any(":" in word and word.rpartition(":")[2].isidentifier() for word in words)
