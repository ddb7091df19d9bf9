"""Loading user classes by ``module:Class`` or ``path/to/file.py:Class``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from vlray.settings.wording import similar

EXAMPLES = "use module:Class (my_package.detectors:Mine) or a file (path/to/file.py:Mine)"

_PREFIX = "vlray_plugin_"  # of the names of modules that were loaded from files


def load(target: str) -> Any:
    """Import a module or a Python file, and return an object from it.

    Args:
        target: ``module:Class``, or ``path/to/file.py:Class`` with an absolute path or one relative
            to the current directory. An unchanged file is imported once.

    Raises:
        ValueError: ``target`` has a different form, or the module, file or object does not exist.
        ImportError: The module or file itself imports something that is not installed.
    """
    module_name, colon, name = target.rpartition(":")
    if not colon or not module_name or not name.isidentifier():
        raise ValueError(f"{target!r} does not name a class; {EXAMPLES}")
    is_file = module_name.endswith(".py")
    module = _load_file(Path(module_name), target) if is_file else _load(module_name, target)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [word for word in vars(module) if not word.startswith("_")]
        near = similar(name, public, count=3) or sorted(public)[:10]
        raise ValueError(
            f"{target!r}: {module_name} has no {name!r}; "
            f"it has {', '.join(near) or 'no public names'}"
        ) from None


def is_from_file(value: Any) -> bool:
    """Return whether a function, or an object's class, comes from a file that `load` imported.

    Pickle finds it only in processes that have imported the file as well.
    """
    return str(getattr(value, "__module__", "")).startswith(_PREFIX)


def confirmed(name: str, source: str, user_name: str, option: str) -> str:
    """Return the name of the class to use for a name that a file contains.

    A file never decides which code is imported: a class outside vlray needs to be named by the
    user. Presets and names stored with ``vlray env set`` need no confirmation.

    Args:
        name: The name in the file.
        source: The file, for the message.
        user_name: The name that the user gave. Empty: none.
        option: Option for that name, for the message.

    Raises:
        ValueError: The file names a class that the user did not name, or another one.
    """
    if not user_name and ":" not in name:
        return name
    if user_name and _short(user_name) == _short(name):
        return user_name  # the user's file, wherever the other one was
    advice = f"if you trust that code, name the class yourself: {option} {name}"
    if user_name:
        advice = f"that is not {user_name}; pass the same class, or leave out {option}"
    raise ValueError(
        f"{source} names {name!r}, and vlray imports no code because a file names it; {advice}"
    )


def _short(name: str) -> str:
    """Return a name without the folder of its file, which differs between machines."""
    file, colon, attribute = name.rpartition(":")
    return f"{Path(file).name}:{attribute}" if colon and file.endswith(".py") else name


def _load(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The target is wrong only if it names the missing module. Otherwise the target's module
        # exists, but imports something that is not installed.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            error.add_note(f"while vlray imported {target!r}")
            raise
        raise ValueError(f"{target!r}: no module named {error.name!r}; {EXAMPLES}") from error
    except (TypeError, ValueError) as error:  # "..", "a..b", ".a"
        raise ValueError(f"{target!r}: {name!r} is not a valid module name; {EXAMPLES}") from error


def _load_file(path: Path, target: str) -> ModuleType:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{target!r}: no such file: {path}; {EXAMPLES}")
    # The name depends on path and content only, so objects of the module unpickle in every
    # process that has the same file at the same path.
    digest = hashlib.sha256(bytes(path) + b"\0" + path.read_bytes()).hexdigest()[:12]
    name = f"{_PREFIX}{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a module up while it is being executed.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        error.add_note(f"while vlray imported {target!r}")
        raise
    return module
