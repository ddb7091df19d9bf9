"""The command whose options are searched: what was given to it, and its settings in a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from vlray.config.tune import TuneConfig
from vlray.settings import arguments
from vlray.settings.base import Command
from vlray.settings.commands import settings_of
from vlray.settings.layers import Layer, explain
from vlray.settings.options import Path, find_option, flatten, is_mapping, nearest, nest, options_of
from vlray.settings.reader import UsageError, read

COMMANDS = ("extract", "train")
OUTPUT = {"extract": ("output", "path"), "train": ("output",)}

FIXED = {
    "extract": (
        *("config", "project", "env", "output", "images", "data", "split", "boxes"),
        *("cluster.address", "cluster.progress", "detector.features", "detector.grid_layer"),
        "detector.grid_size",
    ),
    "train": ("config", "project", "env", "output", "data", "watch", "cluster.address"),
}
"""Options and sections that say where things are, or what they are measured on."""

Setting = dict[str, Any]
"""Searched options, by their dotted names, and a value of each in plain types."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A command and what stands behind ``--``."""

    cls: type[Command]
    given: Mapping[Path, Any]
    """What was given to it in any layer of settings, in plain types."""

    @property
    def name(self) -> str:
        """Give ``extract`` or ``train``."""
        return self.cls.command

    def config(self, setting: Mapping[str, Any], output: str | File) -> Command:
        """Make the command's settings.

        Args:
            setting: Of the searched options.
            output: Its OUT.

        Raises:
            ValueError: The values do not go together; says which.
        """
        values = {**self.given, OUTPUT[self.name]: str(output)}
        values |= {tuple(name.split(".")): value for name, value in setting.items()}
        try:
            return self.cls(**nest(values))
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise ValueError(
                "; ".join(explain(self.cls, details, [Layer("key", values)]))
            ) from error

    def settings(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Give what was given and searched, in the form of a ``--config`` file."""
        kept = {
            path: value for path, value in self.given.items() if path[0] not in ("project", "env")
        }
        return nest(kept | {tuple(name.split(".")): value for name, value in setting.items()})

    def defaults(self, names: Iterable[str]) -> Setting:
        """Give what options are without a search; those of a mapping may be nothing."""
        values = flatten(self.config({}, "-").model_dump(mode="json"))
        paths = {name: tuple(name.split(".")) for name in names}
        return {name: values[path] for name, path in paths.items() if path in values}

    def option(self, key: str) -> Path:
        """Find the option that a key of the space means, by its full name or its last part.

        Raises:
            ValueError: There is none, or several; or it is none to be searched.
        """
        path = tuple(key.replace("-", "_").split("."))
        options = options_of(self.cls)
        found = path if find_option(path, options) else self._by_last_part(path, options)
        given = ".".join(found)
        if f"{given}.".startswith(tuple(f"{name}." for name in FIXED[self.name])):
            raise ValueError(
                f"--space {key}: {given} says where things are or what they are, so that trials "
                "would not compare; search other options"
            )
        if found in self.given:
            raise ValueError(
                f"--space {key}: {given} is given to vlray {self.name} as well "
                f"({self.given[found]!r}); leave one of the two away"
            )
        return found

    def _by_last_part(self, path: Path, options: Mapping[Path, Any]) -> Path:
        """Complete ``nms_thresh``, or ``architecture.l_layers`` of a mapping."""
        key = ".".join(path)
        ends = [option for option in options if option[-1] == path[0]]
        if len(path) > 1:
            ends = [option for option in ends if is_mapping(options[option])]
        if len(ends) == 1:
            return *ends[0], *path[1:]
        if ends:
            names = " or ".join(".".join(end) for end in ends)
            raise ValueError(f"--space {key} can be {names}; say which")
        close = nearest(key, [".".join(option) for option in options])
        hint = f"did you mean {close}?" if close else f"see vlray {self.name} --help"
        raise ValueError(f"--space {key}: vlray {self.name} has no such option; {hint}")


def read_tuned(config: TuneConfig) -> Tuned:
    """Read what stands behind ``--`` by that command's own layers of settings.

    Raises:
        UsageError: The tuned command or its options are wrong.
    """
    words = " or ".join(COMMANDS)
    if not config.tuned:
        raise UsageError(
            TuneConfig,
            [f"nothing is tuned; put {words} and its arguments behind --, as the examples do"],
        )
    name, *args = config.tuned
    if name not in COMMANDS:
        raise UsageError(TuneConfig, [f"vlray {name} is not tuned; put {words} behind --"])
    cls = settings_of(name)
    output = OUTPUT[name]
    try:
        flags = flatten(arguments.parse(cls, args))
    except ValueError as error:
        raise UsageError(cls, [str(error)]) from error
    if output in flags:
        raise UsageError(
            TuneConfig,
            [f"OUT of vlray {name} ({flags[output]!r}) is below the sweep's; leave it away"],
        )
    parsed = read(cls, [*args, f"--{'.'.join(output)}", "-"])
    given = flatten(parsed.model_dump(mode="json", exclude_unset=True, exclude={"config"}))
    del given[output]
    return Tuned(cls, given)
