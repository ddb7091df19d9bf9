"""The layers of a command's settings, and errors that name the source of a wrong value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File

from pydantic_core import ErrorDetails

from vlray.settings.base import Command
from vlray.settings.commands import commands_with
from vlray.settings.options import ENV_PREFIX, Path, find_option, nearest, options_of
from vlray.settings.wording import plain_message

OWN_VARIABLES = frozenset({"VLRAY_HOME"})
"""Variables that are not options: VLRAY_HOME is the folder of the user's settings.yaml."""


@dataclass(frozen=True)
class Layer:
    """Options from one source: the flags, the variables or one YAML file."""

    kind: str
    """``flag``, ``variable`` or ``key``: the kind of name that options have in this source."""

    values: Mapping[Path, object]
    source: str = ""
    """Path of the YAML file; empty for flags and variables."""

    is_users: bool = False
    """Whether it is the user's own ``settings.yaml``."""

    def name(self, path: Path) -> str:
        """Return an option's name as this layer spells it."""
        if self.kind == "flag":
            return "--" + ".".join(path).replace("_", "-")
        if self.kind == "variable":
            return ENV_PREFIX + "__".join(path).upper()
        return ".".join(path)

    def spell(self, path: Path) -> str:
        """Return an option's name, followed by the file if the option is set in a file."""
        return f"{self.name(path)} (in {self.source})" if self.source else self.name(path)


def read_yaml(path: File) -> dict[str, object]:
    """Read a YAML file of settings.

    Raises:
        ValueError: The file does not exist, or is not a YAML mapping.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"{path}: no such file; pass a YAML file of settings to --config")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} contains a {type(values).__name__}; "
            "write a mapping of settings, such as `detector: {min_boxes: 10}`"
        )
    return values


def describe_unknown(cls: type[Command], layer: Layer, path: Path) -> str:
    """Return the error message for an unknown option, with the most likely intended option."""
    spelled = layer.spell(path)
    options = options_of(cls)
    inside = [option for option in options if option[: len(path)] == path]
    if inside:
        some = ", ".join(layer.name(option) for option in inside)
        return f"{spelled} is a section, not an option; its options are {some}"
    # An entry of a mapping option, written like an option of its own: --detector.options.depth 50.
    if option := find_option(path, options):
        return f"unknown {layer.kind} {spelled}; use {layer.name(option)} {path[-1]}=VALUE"
    if others := commands_with(path, shortcut=layer.kind == "flag"):
        return f"{spelled} is an option of vlray {' and '.join(others)}, not of {cls.command}"
    close = nearest(".".join(path), [".".join(option) for option in options])
    hint = f"did you mean {layer.name(tuple(close.split('.')))}?" if close else "see --help-all"
    return f"unknown {layer.kind} {spelled}; {hint}"


def explain(
    cls: type[Command], details: Iterable[ErrorDetails], layers: list[Layer]
) -> Iterator[str]:
    """Yield one message per invalid or missing value, naming the option as the user wrote it."""
    options = options_of(cls)
    positionals = {tuple(name.split(".")): argument for argument, name in cls.positionals.items()}
    for detail in details:
        path = tuple(str(part) for part in detail["loc"])
        if detail["type"] == "missing":
            for option, argument in positionals.items():
                if option[: len(path)] == path:
                    text = " ".join((options[option].description or "").replace("`", "").split())
                    yield f"{argument} ({'.'.join(option)}) is missing. {text}"
            continue
        yield _explain_value(path, detail, layers)


def _explain_value(path: Path, detail: ErrorDetails, layers: list[Layer]) -> str:
    message = plain_message(detail["msg"])
    for layer in reversed(layers):
        # The error may be inside the value, such as the second item of a list.
        for length in range(len(path), 0, -1):
            if path[:length] in layer.values:
                return f"{layer.spell(path[:length])} is {detail['input']!r}: {message}"
    # A rule that involves several options of a section failed. Name the source of each option that
    # the message mentions, except for default values.
    inside = {
        option: layer.spell(option)
        for layer in layers
        for option in layer.values
        if option[: len(path)] == path and option[-1] in message
    }
    sources = f" (given: {', '.join(inside.values())})" if inside else ""
    name = f"{'.'.join(path)}: " if path else ""  # a rule across sections has no path
    return f"{name}{message}{sources}"
