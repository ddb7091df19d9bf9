"""The layouts of official files by name, and which files each of them wants."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vlray.settings import plugins
from vlray.tasks.protocol import Layout

Roles = Mapping[str, Literal["required", "optional"]]
"""The files that a layout reads, and whether it can do without them."""

PACKAGE = "vlray.tasks.layouts"


def load_layout(name: str) -> Layout:
    """Import the function that a spec's ``layout`` names.

    Args:
        name: A module of ``vlray/tasks/layouts`` (its function ``read``), ``module.function`` of
            one, or ``module:function`` or ``path/to/file.py:function`` of the user's own.

    Raises:
        ValueError: There is none of that name; the built-in ones are listed.
    """
    if ":" in name:
        own: Layout = plugins.load(name)
        return own
    module, _, function = name.partition(".")
    if module not in layout_names():
        raise ValueError(
            f"unknown layout {name!r}; there are {', '.join(layout_names())}, or give "
            "module:function or path/to/file.py:function of your own"
        )
    built_in: Layout = plugins.load(f"{PACKAGE}.{module}:{function or 'read'}")
    return built_in


def layout_names() -> list[str]:
    """List the modules of built-in layouts: those of the package that say their ``ROLES``."""
    return sorted(
        file.name.removesuffix(".py")
        for file in resources.files(PACKAGE).iterdir()
        if file.name.endswith(".py") and "\nROLES" in file.read_text("utf-8")
    )


def roles_of(reader: Any) -> Roles | None:
    """Give the files that a layout wants: its module's ``ROLES``.

    ``ROLES`` is a mapping of roles, or, where a module has several layouts, one such mapping for
    each function by its name. None: the module has none (a user's), so that every file counts.
    """
    roles = getattr(sys.modules[reader.__module__], "ROLES", None)
    if roles is None:
        return None
    by_function = roles.get(reader.__name__)
    return by_function if isinstance(by_function, Mapping) else roles


def source_digest(*readers: Any) -> str:
    """Digest the code that reads: tables made by other code are made anew.

    Of vlray's own it is all of the layouts, which share code; of a user's, the file it is in.
    """
    digest = hashlib.sha256()
    for reader in readers:
        module = sys.modules[reader.__module__]
        own = Path(module.__file__ or "")
        shared = module.__name__.startswith(f"{PACKAGE}.")
        for path in sorted(own.parent.glob("*.py")) if shared else [own]:
            digest.update(path.read_bytes() if path.is_file() else module.__name__.encode())
    return digest.hexdigest()
