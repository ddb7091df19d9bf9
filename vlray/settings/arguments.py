"""The command line: help, shortcuts and positionals around the parser of pydantic-settings."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from functools import partial
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource, SettingsError

from vlray.settings.base import Command
from vlray.settings.layers import Layer, unknown
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
    """Read the flags and positionals that were given, as nested values still unchecked.

    Raises:
        ValueError: A flag is unknown, or there are more positionals than the command takes.
    """
    source: CliSettingsSource[Any] = CliSettingsSource(
        cls,
        root_parser=_parser(cls),
        parse_args_method=partial(_parse, cls),
        add_argument_method=_add_argument,
        add_argument_group_method=_add_group,
        cli_shortcuts=_shortcuts(cls),
        cli_parse_none_str="\0",  # no text stands for None; a dataset may be called null
    )
    try:
        return source(args=_spell_out(cls, argv))()
    except SettingsError as error:
        option = str(error).removeprefix("Parsing error encountered for ").partition(":")[0]
        raise ValueError(
            f"{option} cannot be read; give KEY=VALUE, several as a=1,b=2, or JSON: "
            """'{"a": 1, "b": 2}'"""
        ) from error


def usage(cls: type[Command]) -> str:
    """Return how a command is called, in a line."""
    return " ".join(["vlray", cls.command, *cls.positionals, "[options]"])


def _shortcuts(cls: type[Command]) -> dict[str, str]:
    """Let the last part of an option's name stand for it where no other option ends the same."""
    paths = list(options_of(cls))
    count = Counter(path[-1] for path in paths)
    return {
        ".".join(path).replace("_", "-"): path[-1].replace("_", "-")
        for path in paths
        if len(path) > 1 and count[path[-1]] == 1
    }


def _spell_out(cls: type[Command], argv: list[str]) -> list[str]:
    """Bring flags into kebab-case, and give each file after ``--config`` a flag of its own."""
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
        elif len(args) > 1 and args[-2] == "--config" and arg.endswith((".yaml", ".yml")):
            args.append("--config")
        args.append(arg)
    return args


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # "argument --detector.min-boxes/--min-boxes: ...": the shortcuts are no news.
        message = re.sub(r"^argument ([^/:]+)[^:]*: ", r"\1: ", message)
        raise ValueError(message.replace("ignored explicit argument", "takes no value, not even"))


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

The last part of an option's name is enough where it is unique: --min-boxes 10. Each option is
also a variable (VLRAY_DETECTOR__MIN_BOXES), a key of a --config file, and of the user's
settings.yaml (vlray env set detector.min_boxes 10); flags win, then come variables, files,
settings.yaml and the defaults.""",
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    options = options_of(cls)
    for shown, name in cls.positionals.items():
        about = options[tuple(name.split("."))].description
        parser.add_argument(shown, nargs="?", default=SUPPRESS, help=_plain(about))
    parser.add_argument("-h", "--help", action="help", help="Show this and exit.")
    return parser


def _parse(cls: type[Command], parser: ArgumentParser, args: list[str]) -> Namespace:
    namespace, extra = parser.parse_known_intermixed_args(args)
    for arg in extra:
        if arg.startswith("-") and arg != "--":
            _refuse(cls, arg.partition("=")[0])
    if extra:
        way = (
            "several entries of an option have commas between them: a=1,b=2"
            if re.match(r"[\w.]+=", extra[-1])
            else "put quotes around a name with spaces"
        )
        raise ValueError(
            f"{extra[-1]!r} is one argument too many after {' '.join(cls.positionals)}; {way}"
        )
    for shown, name in cls.positionals.items():
        if hasattr(namespace, shown):
            if hasattr(namespace, name):
                raise ValueError(f"{name} is given twice, as {shown} and as a flag; give one")
            setattr(namespace, name, getattr(namespace, shown))
            delattr(namespace, shown)
    return namespace


def _refuse(cls: type[Command], flag: str) -> NoReturn:
    if not flag.startswith("--"):
        raise ValueError(f"unknown flag {flag}; see --help")
    path = tuple(flag.lstrip("-").replace("-", "_").split("."))
    same = [option for option in options_of(cls) if option[-1] == path[-1]]
    layer = Layer("flag", {})
    if len(path) == 1 and len(same) > 1:
        names = " or ".join(layer.spell(option) for option in same)
        raise ValueError(f"{flag} can be {names}; say which")
    raise ValueError(unknown(cls, layer, path))


def _plain(text: str | None) -> str:
    """Bring a docstring into the form of argparse's help: one line, no markup, % doubled."""
    return " ".join((text or "").replace("``", "").split()).replace("%", "%%")


def _add_argument(parser: Any, *names: str, **kwargs: Any) -> None:
    if kwargs.get("const") == "{}":
        return  # a whole section as JSON: YAML files do that better
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
        """Show an option by its full name only; the shortcuts are explained once, below."""
        if action.nargs == 0:
            return ", ".join(action.option_strings[:2])
        if action.option_strings:
            return f"{action.option_strings[0]} {action.metavar}"
        return super()._format_action_invocation(action)
