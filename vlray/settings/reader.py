"""Read a command's settings: flags, environment variables, YAML files and the lasting state."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from vlray.settings import arguments, state
from vlray.settings.base import Command
from vlray.settings.commands import commands_with
from vlray.settings.layers import OWN_VARIABLES, Layer, explain, read_yaml, unknown
from vlray.settings.options import (
    ENV_PREFIX,
    Path,
    find_option,
    flatten,
    is_mapping,
    nest,
    options_of,
)

C = TypeVar("C", bound=Command)


class UsageError(ValueError):
    """The options of a command are wrong, each for a reason of its own.

    Attributes:
        command: The command whose options they are.
        messages: One sentence for each mistake.
        usage: A line on how the command is called.
    """

    def __init__(self, command: type[Command], messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.command = command
        self.messages = tuple(messages)
        self.usage = f"usage: {arguments.usage(command)}; --help explains"


def from_cli(cls: type[C], argv: list[str] | None = None) -> C:
    """Read the settings for a command line.

    Args:
        cls: Settings of the command.
        argv: The arguments; None: those of this process.

    Raises:
        UsageError: An option, variable or file is wrong.
    """
    return read(cls, sys.argv[1:] if argv is None else argv)


def read(cls: type[C], argv: list[str]) -> C:
    """Read the settings from all layers, for calls from Python.

    Raises:
        UsageError: An option, variable or file is wrong.
    """
    try:
        args, fixed = cls.rewrite_args(argv)
        flags = arguments.parse(cls, args)
        layers = read_layers(cls, flags, os.environ)
    except (ValueError, OSError, SettingsError) as error:
        raise UsageError(cls, [str(error)]) from error
    merged: dict[tuple[str, ...], Any] = {}
    for layer in layers:
        merged |= layer.values
    try:
        config = cls(**nest(merged))
    except ValidationError as error:
        messages = list(explain(cls, error.errors(include_url=False), layers))
        raise UsageError(cls, messages) from error
    return config.model_copy(update=fixed) if fixed else config


def read_layers(
    cls: type[Command], flags: Mapping[str, Any], environ: Mapping[str, str]
) -> list[Layer]:
    """Read every layer, the weakest first.

    Raises:
        ValueError: A file is missing or no mapping of settings, or a name is unknown.
    """
    flag_layer = Layer("flag", _typed(cls, flatten(flags)))
    variable_layer = _read_variables(cls, environ)
    files = flag_layer.values.get(("config",), variable_layer.values.get(("config",), ""))
    names = [name for name in files.split(",") if name.strip()]
    lasting = {key: value for key, value in state.read_state().items() if key != "models"}
    return [
        _known(cls, lasting, str(state.settings_path()), shared=True),
        *(_known(cls, read_yaml(File(name.strip())), name.strip()) for name in names),
        variable_layer,
        flag_layer,
    ]


def _known(
    cls: type[Command], values: Mapping[str, Any], origin: str, shared: bool = False
) -> Layer:
    """Make a layer of a file's values; refuse what no command (or, unshared, not this) knows."""
    options = options_of(cls)
    layer = Layer("key", flatten(values), origin)
    known: dict[Path, Any] = {}
    for path, value in layer.values.items():
        option = find_option(path, options)
        if option == ("config",):
            raise ValueError(f"{layer.spell(path)} has no effect in a file; give --config FILE")
        if option is not None:
            known[path] = value
        elif value is None and any(option[: len(path)] == path for option in options):
            continue  # an empty section
        elif not (shared and commands_with(path)):
            raise ValueError(unknown(cls, layer, path))
    return Layer("key", known, origin)


def _read_variables(cls: type[Command], environ: Mapping[str, str]) -> Layer:
    """Read the ``VLRAY_*`` variables; those of other commands are theirs."""
    options = options_of(cls)
    variables = Layer("variable", {})
    wanted: dict[str, str | None] = {}
    mappings = []
    for name, value in environ.items():
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in OWN_VARIABLES:
            continue
        path = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
        if option := find_option(path, options):
            wanted[name.lower()] = value
            if is_mapping(options[option]):
                mappings.append(name)
        elif not commands_with(path):
            raise ValueError(unknown(cls, variables, path))
    source = EnvSettingsSource(cls)
    source.env_vars = wanted
    try:
        return Layer("variable", _typed(cls, flatten(source())))
    except SettingsError as error:  # mappings are the only kind that is read as JSON
        raise ValueError(f'{", ".join(mappings)}: give JSON, such as {{"depth": 50}}') from error


def _typed(cls: type[Command], values: dict[Path, Any]) -> dict[Path, Any]:
    """Read the entries of mappings as YAML would: ``depth=50`` is a number."""
    options = options_of(cls)
    for path, value in values.items():
        if path not in options and isinstance(value, str):
            import yaml

            values[path] = yaml.safe_load(value)
    return values
