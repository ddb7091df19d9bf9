"""The command whose options are searched, and the command's settings in each trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from vlray.config.tune import TuneConfig
from vlray.settings import arguments
from vlray.settings.base import Command
from vlray.settings.commands import settings_of
from vlray.settings.layers import Layer, explain
from vlray.settings.options import (
    FLAGS_ONLY,
    Path,
    find_option,
    flatten,
    is_mapping,
    nearest,
    nest,
    options_of,
)
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
"""Options and sections that cannot be searched: locations, and the data to measure on."""

Setting = Mapping[str, Any]
"""A value for each searched option, in plain types, keyed by the option's dotted name."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """The command after ``--`` and its options."""

    cls: type[Command]
    options: Mapping[Path, object]
    """Options that are set in any settings layer, in plain types."""

    @property
    def name(self) -> str:
        """Name of the command: ``extract`` or ``train``."""
        return self.cls.command

    def config(self, setting: Setting, output: str | File) -> Command:
        """Return the command's settings in a trial.

        Args:
            setting: Values of the searched options; empty for the default settings.
            output: OUT of the command.

        Raises:
            ValueError: A value or the combination of values is invalid; the message explains why.
        """
        values = {**self.options, OUTPUT[self.name]: str(output)}
        values |= {tuple(name.split(".")): value for name, value in setting.items()}
        try:
            return self.cls(**nest(values))
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise ValueError(
                "; ".join(explain(self.cls, details, [Layer("key", values)]))
            ) from error

    def fixed(self) -> dict[str, Any]:
        """Return the options that the user set for all trials, without ``project`` and ``env``."""
        return nest({p: v for p, v in self.options.items() if p[0] not in ("project", "env")})

    def defaults(self, names: Iterable[str]) -> Setting:
        """Return the options' values in the default settings, without unset mapping entries."""
        values = flatten(self.config({}, "-").model_dump(mode="json"))
        paths = {name: tuple(name.split(".")) for name in names}
        return {name: values[path] for name, path in paths.items() if path in values}

    def option(self, key: str) -> Path:
        """Return the path of the option that ``key`` names, by its full name or its last part.

        Raises:
            ValueError: The key matches no option or several options, or the option cannot be
                searched or is also set after ``--``.
        """
        path = tuple(key.replace("-", "_").split("."))
        options = options_of(self.cls)
        option = path if find_option(path, options) else self._by_last_part(path, options)
        name = ".".join(option)
        # With the dot, ``output`` stands for the section ``output.*``, not for other names.
        if f"{name}.".startswith(tuple(f"{fixed}." for fixed in FIXED[self.name])):
            raise ValueError(
                f"--space {key}: {name} sets a location or the data to measure on, so trials would "
                "not be comparable; search other options"
            )
        if option in self.options:
            raise ValueError(
                f"--space {key}: {name} is also an option of vlray {self.name} after -- "
                f"({self.options[option]!r}); remove one of the two"
            )
        return option

    def _by_last_part(self, path: Path, options: Mapping[Path, FieldInfo]) -> Path:
        """Return the full path for ``nms_thresh``, or for a mapping's ``architecture.l_layers``.

        Raises:
            ValueError: No option or several options match.
        """
        key = ".".join(path)
        ends = [option for option in options if option[-1] == path[0]]
        # Only a mapping has entries that are not options themselves.
        if len(path) > 1:
            ends = [option for option in ends if is_mapping(options[option])]
        if len(ends) == 1:
            return *ends[0], *path[1:]
        if ends:
            names = " or ".join(".".join(end) for end in ends)
            raise ValueError(f"--space {key} is ambiguous: pass {names}")
        close = nearest(key, [".".join(option) for option in options])
        hint = f"did you mean {close}?" if close else f"see vlray {self.name} --help"
        raise ValueError(f"--space {key}: vlray {self.name} has no such option; {hint}")


def read_tuned(config: TuneConfig) -> Tuned:
    """Read the command after ``--`` from all of the command's settings layers.

    Raises:
        UsageError: The command cannot be tuned, or its options are invalid.
    """
    words = " or ".join(COMMANDS)
    if not config.tuned:
        raise UsageError(
            TuneConfig,
            [f"no command to tune; pass {words} and its arguments after --, as in the examples"],
        )
    name, *args = config.tuned
    if name not in COMMANDS:
        raise UsageError(TuneConfig, [f"vlray {name} cannot be tuned; pass {words} after --"])
    cls = settings_of(name)
    output = OUTPUT[name]
    try:
        flags = flatten(arguments.parse(cls, args))
    except ValueError as error:
        raise UsageError(cls, [str(error)]) from error
    if output in flags:
        raise UsageError(
            TuneConfig,
            [
                f"OUT of vlray {name} ({flags[output]!r}) is chosen by vlray tune, below its own "
                "OUT; remove it"
            ],
        )
    # OUT is required, so pass "-" as a placeholder.
    parsed = read(cls, [*args, f"--{'.'.join(output)}", "-"])
    # "config" only names files, whose values are among the other options.
    # Only what some layer sets: options at their default can be searched.
    options = flatten(parsed.model_dump(mode="json", exclude_unset=True, exclude={*FLAGS_ONLY}))
    del options[output]  # each trial has its own
    return Tuned(cls, options)
