"""The layers of a command's settings: where each value came from, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from pydantic_core import ErrorDetails

from vlray.settings.base import Command
from vlray.settings.commands import commands_with
from vlray.settings.options import ENV_PREFIX, Path, find_option, nearest, options_of
from vlray.settings.wording import plain_message

OWN_VARIABLES = frozenset({"VLRAY_HOME"})
"""Variables that are no options: VLRAY_HOME is the folder of the user's settings.yaml."""


@dataclass(frozen=True)
class Layer:
    """Settings of one origin."""

    kind: str
    """``flag``, ``variable`` or ``key``: what an option is called there."""

    values: Mapping[Path, Any]
    origin: str = ""
    """The file that the keys are in."""

    def name(self, path: Path) -> str:
        """Write the name of an option as it is written here."""
        if self.kind == "flag":
            return "--" + ".".join(path).replace("_", "-")
        if self.kind == "variable":
            return ENV_PREFIX + "__".join(path).upper()
        return ".".join(path)

    def spell(self, path: Path) -> str:
        """Write the name of an option and the file that it is in."""
        return f"{self.name(path)} (in {self.origin})" if self.origin else self.name(path)


def read_yaml(path: File) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        ValueError: It does not exist, is no YAML, or is no mapping.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"there is no file {path}; give --config a YAML file of settings")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds a {type(values).__name__}; "
            "give a mapping of settings, such as `detector: {min_boxes: 10}`"
        )
    return values


def unknown(cls: type[Command], layer: Layer, path: Path) -> str:
    """Say that no such option is known, and what may have been meant."""
    spelled = layer.spell(path)
    options = options_of(cls)
    inside = [option for option in options if option[: len(path)] == path]
    if inside:
        some = ", ".join(layer.name(option) for option in inside)
        return f"{spelled} is a section, not an option; its options are {some}"
    if option := find_option(path, options):
        return f"unknown {layer.kind} {spelled}; give {layer.name(option)} {path[-1]}=VALUE"
    if others := commands_with(path, shortcut=layer.kind == "flag"):
        return f"{spelled} is an option of vlray {' and '.join(others)}, not of {cls.command}"
    close = nearest(".".join(path), [".".join(option) for option in options])
    hint = f"did you mean {layer.name(tuple(close.split('.')))}?" if close else "see --help"
    return f"unknown {layer.kind} {spelled}; {hint}"


def explain(
    cls: type[Command], details: Iterable[ErrorDetails], layers: list[Layer]
) -> Iterator[str]:
    """Say what is wrong with each value, under the name and in the place where it was given."""
    options = options_of(cls)
    positionals = {tuple(name.split(".")): shown for shown, name in cls.positionals.items()}
    for detail in details:
        path = tuple(str(part) for part in detail["loc"])
        if detail["type"] == "missing":
            for option, shown in positionals.items():
                if option[: len(path)] == path:
                    about = " ".join((options[option].description or "").replace("`", "").split())
                    yield f"{shown} ({'.'.join(option)}) is missing. {about}"
            continue
        yield _explain_value(path, detail, layers)


def _explain_value(path: Path, detail: ErrorDetails, layers: list[Layer]) -> str:
    message = plain_message(detail["msg"])
    for layer in reversed(layers):
        for length in range(len(path), 0, -1):
            if path[:length] in layer.values:
                return f"{layer.spell(path[:length])} is {detail['input']!r}: {message}"
    # A rule between the options of a section: say where those that are not defaults come from.
    inside = {
        option: layer.spell(option)
        for layer in layers
        for option in layer.values
        if option[: len(path)] == path and option[-1] in message
    }
    origins = f" (given: {', '.join(inside.values())})" if inside else ""
    name = f"{'.'.join(path)}: " if path else ""  # a rule between sections has no one place
    return f"{name}{message}{origins}"
