"""Read a command's settings from flags, environment variables, YAML files and settings.yaml."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from vlray.settings import arguments, state
from vlray.settings.base import Command
from vlray.settings.code import untrusted
from vlray.settings.commands import commands_with
from vlray.settings.help import usage
from vlray.settings.job_folder import RUNS_DIR, check_outputs
from vlray.settings.layers import OWN_VARIABLES, Layer, describe_unknown, explain, read_yaml
from vlray.settings.options import (
    ENV_PREFIX,
    FLAGS_ONLY,
    Path,
    find_option,
    flatten,
    is_mapping,
    nest,
    options_of,
)

C = TypeVar("C", bound=Command)


class UsageError(ValueError):
    """Raised when options of a command are invalid.

    Attributes:
        command: Settings class of the command.
        messages: One sentence for each invalid option.
        usage: The usage line.
    """

    def __init__(self, command: type[Command], messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.command = command
        self.messages = tuple(messages)
        self.usage = f"usage: {usage(command)}; --help-all lists the options"


def from_cli(cls: type[C], argv: list[str] | None = None) -> C:
    """Read a command's settings from all layers, by default with this process's arguments.

    Args:
        cls: Settings class of the command.
        argv: Command-line arguments; None: ``sys.argv[1:]``.

    Raises:
        UsageError: An option, variable or file is invalid.
        ValueError: A job's output would be written into Ray's copy of the working directory.
    """
    config = read(cls, sys.argv[1:] if argv is None else argv)
    values = flatten(config.model_dump())
    if "runs_dir" not in config.env.model_fields_set:
        del values[RUNS_DIR]
    check_outputs(values, File.cwd(), cls.command)
    return config


def read(cls: type[C], argv: list[str]) -> C:
    """Read a command's settings from all layers, with explicit command-line arguments.

    Raises:
        UsageError: An option, variable or file is invalid.
    """
    try:
        args, fixed = cls.rewrite_args(argv)
        flags = arguments.parse(cls, args)
        layers = read_layers(cls, flags, os.environ)
    except (ValueError, OSError, SettingsError) as error:
        raise UsageError(cls, [str(error)]) from error
    merged: dict[tuple[str, ...], object] = {}
    for layer in layers:  # lowest precedence first, so later layers override earlier ones
        merged |= layer.values
    try:
        config = cls(**nest(merged))
    except ValidationError as error:
        messages = list(explain(cls, error.errors(include_url=False), layers))
        raise UsageError(cls, messages) from error
    if not config.trust_code and (messages := list(untrusted(cls, layers))):
        raise UsageError(cls, messages)
    return config.model_copy(update=fixed) if fixed else config


def read_layers(
    cls: type[Command], flags: Mapping[str, object], environ: Mapping[str, str]
) -> list[Layer]:
    """Read all layers, lowest precedence first.

    Raises:
        ValueError: A file is missing or not a mapping of settings, or a name is unknown.
    """
    flag_layer = Layer("flag", _typed(cls, flatten(flags)))
    variable_layer = _read_variables(cls, environ)
    # A --config flag replaces the files in VLRAY_CONFIG.
    files = str(flag_layer.values.get(("config",), variable_layer.values.get(("config",), "")))
    names = [name for name in files.split(",") if name.strip()]
    # Stored models share the file, but are not options.
    user = {key: value for key, value in state.read_state().items() if key != "models"}
    return [
        _file_layer(cls, user, str(state.settings_path()), shared=True),
        *(_file_layer(cls, read_yaml(File(name.strip())), name.strip()) for name in names),
        variable_layer,
        flag_layer,
    ]


def _file_layer(
    cls: type[Command], values: Mapping[str, object], source: str, shared: bool = False
) -> Layer:
    """Convert a file's values to a layer.

    Args:
        cls: Settings class of the command.
        values: The content of the file.
        source: Path of the file.
        shared: Whether the file may also hold options of other commands; these are skipped.

    Raises:
        ValueError: A key is unknown.
    """
    options = options_of(cls)
    layer = Layer("key", flatten(values), source)
    selected: dict[Path, object] = {}
    for path, value in layer.values.items():
        option = find_option(path, options)
        if option and option[0] in FLAGS_ONLY:
            raise ValueError(
                f"{layer.spell(path)} has no effect in a file; "
                f"pass {Layer('flag', {}).name(option)}{' FILE' if option == ('config',) else ''} "
                "on the command line"
            )
        if option is not None:
            selected[path] = value
        elif value is None and any(option[: len(path)] == path for option in options):
            continue  # an empty section
        elif not (shared and commands_with(path)):
            raise ValueError(describe_unknown(cls, layer, path))
    return Layer("key", selected, source, is_users=shared)


def _read_variables(cls: type[Command], environ: Mapping[str, str]) -> Layer:
    """Read the ``VLRAY_*`` variables, and skip variables of other commands."""
    options = options_of(cls)
    variables = Layer("variable", {})
    selected: dict[str, str | None] = {}
    mappings = []
    for name, value in environ.items():
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in OWN_VARIABLES:
            continue
        path = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
        if option := find_option(path, options):
            selected[name.lower()] = value  # pydantic-settings uses lower case
            if is_mapping(options[option]):
                mappings.append(name)
        elif not commands_with(path):
            raise ValueError(describe_unknown(cls, variables, path))
    # Restrict the source to the variables that were checked above.
    source = EnvSettingsSource(cls)
    source.env_vars = selected
    try:
        return Layer("variable", _typed(cls, flatten(source())))
    except SettingsError as error:  # only mappings are parsed as JSON
        raise ValueError(
            f'{", ".join(mappings)}: not valid JSON; use JSON, such as {{"depth": 50}}'
        ) from error


def _typed(cls: type[Command], values: dict[Path, object]) -> dict[Path, object]:
    """Parse the entries of mapping options as YAML, so that ``depth=50`` becomes a number."""
    options = options_of(cls)
    for path, value in values.items():
        if path not in options and isinstance(value, str):
            import yaml

            values[path] = yaml.safe_load(value)
    return values
