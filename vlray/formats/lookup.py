"""Look up the reader for a region file format by name or by content; import readers on demand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import cast

from vlray.config.formats import ALIASES, FORMATS, READ
from vlray.detect.inputs import explain_input
from vlray.formats.describe import describe, nearest
from vlray.formats.readers.protocol import Reader
from vlray.settings import plugins

_NAMES = ", ".join(READ)


def reader_of(name: str) -> type[Reader]:
    """Import the reader for a built-in format, or a user's reader from ``module:Class``.

    Raises:
        ValueError: The name is not a format (the message lists all formats), or the class is not a
            reader.
    """
    if ":" in name:
        reader = plugins.load(name)
        lacking = [part for part in ("name", "pickled", "read") if not hasattr(reader, part)]
        if lacking:
            raise ValueError(
                f"{name} is not a reader: it has no {' and no '.join(lacking)} "
                "(vlray/formats/readers/protocol.py)"
            )
        return cast("type[Reader]", reader)
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; choose from {_NAMES}, or pass module:Class")
    if not FORMATS[name].reader:
        raise ValueError(
            f"{name} is written only; read its files with --format {FORMATS[name].read_as}"
        )
    return cast("type[Reader]", plugins.load(FORMATS[name].reader))


def recognize(source: Path) -> str:
    """Detect the format of a file or folder from its content.

    Raises:
        ValueError: No format matches. For images or weights, the message names the command to use.
    """
    for name in READ:
        if reader_of(name).recognizes(source):
            return name
    if hint := explain_input(str(source)):
        raise ValueError(hint)
    description = describe(source)
    near = [f"{name} ({FORMATS[name].about})" for name in nearest(description)]
    raise ValueError(
        f"{source} matches no supported format: it is {description.text}. The nearest formats are "
        f"{'; '.join(near)}. Pass --format NAME to see why one does not match; `vlray convert "
        "--formats` lists all"
    )


def open_reader(name: str, source: Path, *, trust_pickle: bool) -> Reader:
    """Open a file or folder in a given format.

    Raises:
        ValueError: The content does not match the format, or is pickled and ``trust_pickle`` is
            off.
    """
    reader = reader_of(name)
    if reader.pickled and not trust_pickle:
        raise ValueError(
            f"{source} has the pickled format {name}, and opening a pickle can run code; pass "
            "--trust-pickle if you trust the source of the file. Even then, vlray reads only "
            "arrays, numbers, strings and containers of them"
        )
    make = cast("Callable[..., Reader]", reader)
    # Readers that never unpickle may omit the parameter.
    if "trust_pickle" in inspect.signature(make).parameters:
        return make(source, trust_pickle=trust_pickle)
    return make(source)
