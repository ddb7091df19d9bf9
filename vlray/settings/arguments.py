"""The command line: help, short names and positional arguments for pydantic-settings."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from functools import partial
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource, SettingsError

from vlray.settings.base import Command
from vlray.settings.layers import Layer, describe_unknown
from vlray.settings.options import options_of

METAVARS = {
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "Path": "PATH",
    "tuple[Path,...]": "FILE.yaml",
    "tuple[str,...]": "NAME,...",
    "dict[str,Any]": "KEY=VALUE",
    "dict[str,str]": "NAME=VALUE",
}


def parse(cls: type[Command], argv: list[str]) -> dict[str, Any]:
    """Parse the command line into nested values, without validating them.

    Raises:
        ValueError: A flag is unknown, or there are too many positional arguments.
    """
    source: CliSettingsSource[Any] = CliSettingsSource(
        cls,
        root_parser=_parser(cls),
        parse_args_method=partial(_parse, cls),
        add_argument_method=_add_argument,
        add_argument_group_method=_add_group,
        cli_shortcuts=_shortcuts(cls),
        cli_parse_none_str="\0",  # no text means None: a dataset may be called "null"
    )
    try:
        return source(args=_spell_out(cls, argv))()
    except SettingsError as error:
        option = str(error).removeprefix("Parsing error encountered for ").partition(":")[0]
        raise ValueError(
            f"{option} cannot be parsed; pass KEY=VALUE (several: a=1,b=2) or JSON: "
            """'{"a": 1, "b": 2}'"""
        ) from error


def usage(cls: type[Command]) -> str:
    """Return the one-line usage of a command."""
    return " ".join(["vlray", cls.command, *cls.positionals, "[options]"])


def _shortcuts(cls: type[Command]) -> dict[str, str]:
    """Map options to short names: the last part of an option, if no other option ends in it."""
    paths = list(options_of(cls))
    count = Counter(path[-1] for path in paths)
    return {
        ".".join(path).replace("_", "-"): path[-1].replace("_", "-")
        for path in paths
        if len(path) > 1 and count[path[-1]] == 1
    }


def _spell_out(cls: type[Command], argv: list[str]) -> list[str]:
    """Normalize flags to kebab-case, resolve aliases, and repeat ``--config`` for each file."""
    args: list[str] = []
    for index, arg in enumerate(argv):
        if arg == "--":
            return args + argv[index:]
        if arg.startswith("--"):
            flag, equals, value = arg.partition("=")
            flag = flag.replace("_", "-")
            if flag[2:] in cls.aliases:
                flag = f"--{cls.aliases[flag[2:]]}"
            arg = f"{flag}{equals}{value}"
        # `--config a.yaml b.yaml`: argparse takes one value per flag, so repeat the flag.
        elif len(args) > 1 and args[-2] == "--config" and arg.endswith((".yaml", ".yml")):
            args.append("--config")
        args.append(arg)
    return args


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Shorten "argument --detector.min-boxes/--min-boxes: ..." to the full name of the option.
        message = re.sub(r"^argument ([^/:]+)[^:]*: ", r"\1: ", message)
        raise ValueError(message.replace("ignored explicit argument", "takes no value, but got"))


def _parser(cls: type[Command]) -> ArgumentParser:
    lines = "\n".join(f"  python -m vlray.{cls.command} {example}" for example in cls.examples)
    notes = f"{cls.notes}\n\n" if cls.notes else ""
    parser = _Parser(
        prog=f"vlray {cls.command}",
        usage=usage(cls),
        description=cls.__doc__,
        epilog=f"""\
{notes}examples:
{lines}

Short names: the last part of an option's name suffices where it is unique (--min-boxes 10).
Each option can be set in four places. The first place in this list that sets it wins:
  1. a flag                    --detector.min-boxes 10
  2. an environment variable   VLRAY_DETECTOR__MIN_BOXES=10
  3. a --config FILE.yaml      detector: {{min_boxes: 10}}
  4. your settings.yaml        vlray env set detector.min_boxes 10""",
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    options = options_of(cls)
    for argument, name in cls.positionals.items():
        description = options[tuple(name.split("."))].description
        parser.add_argument(argument, nargs="?", default=SUPPRESS, help=_plain(description))
    parser.add_argument("-h", "--help", action="help", help="Show this help and exit.")
    return parser


def _parse(cls: type[Command], parser: ArgumentParser, args: list[str]) -> Namespace:
    # Intermixed: positional arguments may follow flags.
    namespace, extra = parser.parse_known_intermixed_args(args)
    for arg in extra:
        if arg.startswith("-") and arg != "--":
            _refuse(cls, arg.partition("=")[0])
    if extra:
        advice = (
            "separate the entries of an option with commas: a=1,b=2"
            if re.match(r"[\w.]+=", extra[-1])
            else "put quotes around a name with spaces"
        )
        raise ValueError(
            f"{extra[-1]!r} is an unexpected argument after {' '.join(cls.positionals)}; {advice}"
        )
    for argument, name in cls.positionals.items():
        if hasattr(namespace, argument):
            if hasattr(namespace, name):
                raise ValueError(
                    f"{name} is set twice, by {argument} and by a flag; remove one of them"
                )
            setattr(namespace, name, getattr(namespace, argument))
            delattr(namespace, argument)
    return namespace


def _refuse(cls: type[Command], flag: str) -> NoReturn:
    if not flag.startswith("--"):
        raise ValueError(f"unknown flag {flag}; see --help")
    path = tuple(flag.lstrip("-").replace("-", "_").split("."))
    same = [option for option in options_of(cls) if option[-1] == path[-1]]
    layer = Layer("flag", {})
    if len(path) == 1 and len(same) > 1:
        names = " or ".join(layer.spell(option) for option in same)
        raise ValueError(f"{flag} is ambiguous: it can be {names}; write the full name")
    raise ValueError(describe_unknown(cls, layer, path))


def _plain(text: str | None) -> str:
    """Convert a docstring to argparse's help format: one line, no markup, % doubled."""
    return " ".join((text or "").replace("``", "").split()).replace("%", "%%")


def _add_argument(parser: Any, *names: str, **kwargs: Any) -> None:
    if kwargs.get("const") == "{}":
        return  # pydantic-settings also offers each section as JSON; YAML files cover that case
    # Drop "(default: )" for an empty default: the help text says what an empty value means.
    text = re.sub(r" \(default: (|\(\)|\{\}|\.)\)$", "", kwargs.pop("help"))
    if "metavar" in kwargs:
        kwargs["metavar"] = METAVARS.get(kwargs["metavar"], kwargs["metavar"])
    parser.add_argument(*names, help=_plain(text.replace("%%", "%")), **kwargs)


def _add_group(parser: ArgumentParser, title: str, description: str) -> Any:
    return parser.add_argument_group(title.removesuffix(" options"), _plain(description))


class _Formatter(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _format_action_invocation(self, action: Action) -> str:
        """Show the full name only; the epilog explains short names once for all options."""
        if action.nargs == 0:
            return ", ".join(action.option_strings[:2])
        if action.option_strings:
            return f"{action.option_strings[0]} {action.metavar}"
        return super()._format_action_invocation(action)
