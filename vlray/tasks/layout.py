"""Look up layouts by name, and the files that each layout reads."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from vlray.settings import plugins
from vlray.tasks.protocol import Layout

Roles = Mapping[str, Literal["required", "optional"]]
"""Roles of the files that a layout reads, and whether each file is required."""

PACKAGE = "vlray.tasks.layouts"


def load_layout(name: str) -> Layout:
    """Import the function that ``spec.layout`` names.

    Args:
        name: A module in ``vlray/tasks/layouts``, for its function ``read``;
            ``module.function`` for another function in such a module; or a user's function,
            ``module:function`` or ``path/to/file.py:function``.

    Raises:
        ValueError: There is no such layout; the message lists the built-in ones.
    """
    if ":" in name:
        user_layout: Layout = plugins.load(name)
        return user_layout
    module, _, function = name.partition(".")
    if module not in layout_names():
        raise ValueError(
            f"unknown layout {name!r}; the layouts are {', '.join(layout_names())}. For your own "
            "function, pass module:function or path/to/file.py:function"
        )
    built_in: Layout = plugins.load(f"{PACKAGE}.{module}:{function or 'read'}")
    return built_in


def layout_names() -> list[str]:
    """List the built-in layouts: the modules of the package that define ``ROLES``."""
    # Search the source text, to avoid importing every layout.
    return sorted(
        file.name.removesuffix(".py")
        for file in resources.files(PACKAGE).iterdir()
        if file.name.endswith(".py") and "\nROLES" in file.read_text("utf-8")
    )


def roles_of(reader: Callable[..., object]) -> Roles | None:
    """Return the roles of the files that a layout reads, from ``ROLES`` in its module.

    ``ROLES`` maps roles to ``required`` or ``optional``. A module with several layouts has one
    such mapping per function name. The result is None if the module has no ``ROLES`` (a user's
    module); every file is then required.
    """
    roles = getattr(sys.modules[reader.__module__], "ROLES", None)
    if roles is None:
        return None
    by_function = roles.get(reader.__name__)
    return by_function if isinstance(by_function, Mapping) else roles


def source_digest(*readers: Callable[..., object]) -> str:
    """Compute a digest of the readers' code, so that changed code invalidates cached tables.

    For a built-in layout, the digest covers all layouts, because they share code. For a user's
    function, it covers the file that defines the function.
    """
    digest = hashlib.sha256()
    for reader in readers:
        module = sys.modules[reader.__module__]
        file = Path(module.__file__ or "")
        shared = module.__name__.startswith(f"{PACKAGE}.")
        # A module without a file (typed in a shell) is identified by name only.
        for path in sorted(file.parent.glob("*.py")) if shared else [file]:
            digest.update(path.read_bytes() if path.is_file() else module.__name__.encode())
    return digest.hexdigest()
