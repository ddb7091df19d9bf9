"""The forms of region files, by name; their code is imported when one is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import cast

from vlray.config.convert import FORMATS
from vlray.detect.inputs import explain_input
from vlray.formats.readers.protocol import Reader
from vlray.settings import plugins

_NAMES = ", ".join(FORMATS)


def reader_of(name: str) -> type[Reader]:
    """Import the reader of a form; ``module:Class`` is one of the user's own.

    Raises:
        ValueError: There is no such form; the known ones are listed.
    """
    if ":" in name:
        return cast("type[Reader]", plugins.load(name))
    if name not in FORMATS:
        raise ValueError(f"there is no form {name!r}; choose {_NAMES}, or give module:Class")
    return cast("type[Reader]", plugins.load(FORMATS[name].reader))


def recognize(source: Path) -> str:
    """Tell the form of a file or folder by its content.

    Raises:
        ValueError: It is of none of the forms; images and weights are told what they are for.
    """
    for name in FORMATS:
        if reader_of(name).recognizes(source):
            return name
    raise ValueError(
        explain_input(str(source))
        or f"{source} is of no form that vlray knows by its content ({_NAMES}); "
        "--format NAME insists on one and says what is wrong with it"
    )


def open_reader(name: str, source: Path, *, trust_pickle: bool) -> Reader:
    """Open a file or folder of a form.

    Raises:
        ValueError: It is not of this form, or it is pickled and was not said to be trusted.
    """
    reader = reader_of(name)
    if reader.pickled and not trust_pickle:
        raise ValueError(
            f"{source} is of the form {name}, which is pickled, and a pickle may run any code when "
            "it is opened; say --trust-pickle if you know where the file is from. Even then only "
            "arrays, numbers, words and containers of them are read"
        )
    make = cast("Callable[..., Reader]", reader)
    if "trust_pickle" in inspect.signature(make).parameters:
        return make(source, trust_pickle=trust_pickle)
    return make(source)
