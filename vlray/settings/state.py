"""The user's ``settings.yaml``: options that apply to all runs and override only the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as File
from typing import Annotated, Any, cast

from pydantic import TypeAdapter, ValidationError

from vlray.settings import atomic
from vlray.settings.base import Command
from vlray.settings.commands import COMMANDS, commands_with, settings_of
from vlray.settings.layers import Layer, explain, read_yaml
from vlray.settings.options import (
    FLAGS_ONLY,
    Path,
    find_option,
    flatten,
    is_location,
    is_mapping,
    nearest,
    nest,
    options_of,
)


def settings_path() -> File:
    """Return the path of the file: in $VLRAY_HOME if set, else in the user's config folder."""
    if home := os.environ.get("VLRAY_HOME"):
        return File(home) / "settings.yaml"
    import platformdirs

    return File(platformdirs.user_config_dir("vlray", appauthor=False)) / "settings.yaml"


def read_state() -> dict[str, object]:
    """Read the file: options as in a ``--config`` file, and ``models``.

    Raises:
        ValueError: The file is not a YAML mapping.
    """
    path = settings_path()
    return read_yaml(path) if path.is_file() else {}


def stored_models() -> dict[str, str]:
    """Read the stored models: names for ``detector.name`` or ``model.name``, mapped to targets.

    Raises:
        ValueError: ``models`` in the file is not a mapping.
    """
    models = read_state().get("models") or {}
    if not isinstance(models, Mapping):
        raise ValueError(
            f"models (in {settings_path()}) is {models!r}, not a mapping; remove it with "
            "`vlray env unset models`, then `vlray env set models.NAME ...`"
        )
    return {str(name): str(model) for name, model in models.items()}


def entries() -> dict[Path, object]:
    """Read all entries of the file, keyed by path."""
    return flatten(read_state())


def store(key: str, value: str) -> object:
    """Set an option, or ``models.NAME``, for all later runs, and return the stored value.

    Raises:
        ValueError: No command has this option, or the value is invalid.
    """
    path = parse_key(key)
    commands = [settings_of(command) for command in commands_with(path)]
    if path[0] != "models" and (not commands or path[0] in FLAGS_ONLY):
        raise ValueError(f"unknown option {key}; {_hint(key)}")
    stored = entries()
    # A key cannot hold both a value and a section: `output` (vlray train) and `output.path`.
    for other in stored:
        if other != path and (other[: len(path)] == path or path[: len(other)] == other):
            raise ValueError(
                f"{key} conflicts with {'.'.join(other)}, which is set; "
                f"remove the latter first: vlray env unset {'.'.join(other)}"
            )
    if path[0] == "models":
        stored[path] = _absolute(_named_class(value))
    for command in commands:
        stored[path] = _checked(command, path, value, stored)
    _write(nest(stored))
    return stored[path]


def remove(key: str) -> None:
    """Remove an option or a stored model.

    Raises:
        ValueError: ``key`` is not set.
    """
    stored = entries()
    names = {".".join(path): path for path in stored}
    key = key if key in names else ".".join(parse_key(key))
    if key not in names:
        state = f"options that are set: {', '.join(names)}" if names else "no options are set"
        raise ValueError(f"{key} is not set; {state}")
    del stored[names[key]]
    _write(nest(stored))


def parse_key(key: str) -> Path:
    """Parse ``detector.min-boxes`` into a path; model and entry names stay unchanged.

    Raises:
        ValueError: A model's name is empty, or looks like a file, a class or a URL.
    """
    section, _, name = key.partition(".")
    if section != "models":
        path = tuple(key.replace("-", "_").split("."))
        for length in range(1, len(path)):
            if any(
                is_mapping(options_of(settings_of(name))[path[:length]])
                for name in commands_with(path[:length])
            ):
                return *path[:length], ".".join(key.split(".")[length:])  # the user's name
        return path
    if not name or set(name) & set(":/\\") or name.endswith((".py", ".yaml", ".yml")):
        raise ValueError(
            f"{key!r} is not a valid model name; use a plain name, such as "
            "`vlray env set models.mine path/to/file.py:Class`"
        )
    return section, name


def _named_class(model: str) -> str:
    """Refuse a Python file without the name of a class in it."""
    file, _, name = model.rpartition(":")
    if model.endswith(".py") or (file.endswith(".py") and not name.isidentifier()):
        file = model if model.endswith(".py") else file
        raise ValueError(f"{model!r} names no class; pass {file}:Class, with a class of the file")
    return model


def _absolute(model: str) -> str:
    """Make the path of an existing file absolute, because later runs may start elsewhere."""
    file, colon, name = model.rpartition(":")
    if colon and File(file).is_file():
        return f"{File(file).resolve()}:{name}"
    return str(File(model).resolve()) if File(model).exists() else model


def _checked(cls: type[Command], path: Path, value: str, stored: dict[Path, object]) -> object:
    """Validate a value together with the other stored options; return the value as a plain type."""
    import yaml

    options = options_of(cls)
    option = find_option(path, options)
    assert option is not None
    field = options[option]
    parsed = yaml.safe_load(value) if is_mapping(field) else value
    # Options of other commands may be stored too, and this class would refuse them.
    others = {path: value for path, value in stored.items() if find_option(path, options)}
    layer = Layer("key", others | {path: parsed})
    try:
        cls(**nest(layer.values))
    except ValidationError as error:
        # Only errors of this option count: missing options come from the command line later, and
        # errors of other options were in the file before.
        wrong = [
            detail
            for detail in error.errors(include_url=False)
            if detail["type"] != "missing"
            and all(str(a) == b for a, b in zip(detail["loc"], path, strict=False))
        ]
        if wrong:
            raise ValueError("; ".join(explain(cls, wrong, [layer]))) from error
    if option != path:
        return _folder(parsed, stored) if is_location(field) else parsed
    # Validate the field alone, to store the value in the field's type.
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[field.annotation, field]))
    typed = adapter.validate_python(parsed)
    # Later commands may run in another folder, so store paths as absolute paths.
    if isinstance(typed, File):
        return str(typed.absolute())
    if typed and is_location(field):
        return _folder(typed, stored)
    return adapter.dump_python(typed, mode="json")


def _folder(location: str, stored: Mapping[Path, object]) -> str:
    """Make a local path absolute: in the stored data folder if it exists only there, else here."""
    if "://" in location:
        return location
    path = File(location).expanduser()
    root = str(stored.get(("data", "root")) or stored.get(("env", "data_dir")) or "")
    if root and "://" not in root and not path.exists() and File(root, path).exists():
        path = File(root, path)
    return str(path.absolute())


def _hint(key: str) -> str:
    options = {".".join(path) for name in COMMANDS for path in options_of(settings_of(name))}
    close = nearest(key, sorted(options - FLAGS_ONLY))
    return f"did you mean {close}?" if close else "`vlray COMMAND --help` lists the options"


def _write(state: dict[str, object]) -> None:
    import yaml

    text = yaml.safe_dump(state, sort_keys=False, allow_unicode=True)
    atomic.write(settings_path(), text.encode())
