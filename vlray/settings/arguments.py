"""The command line: help, short names and positional arguments for pydantic-settings."""

from __future__ import annotations

import re
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections import Counter
from functools import partial
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource, SettingsError

from vlray.settings.base import Command
from vlray.settings.help import (
    LAYERS,
    Formatter,
    examples,
    is_requested,
    plain,
    short_help,
    usage,
    without_empty_default,
)
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


VERBOSITY = {
    "-q": "--env.console-level=warning",
    "--quiet": "--env.console-level=warning",
    "-v": "--env.log-level=debug",
    "--verbose": "--env.log-level=debug",
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
        if arg in VERBOSITY:
            arg = VERBOSITY[arg]
        elif arg.startswith("--"):
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
    notes = f"{cls.notes}\n\n" if cls.notes else ""
    parser = _Parser(
        prog=f"vlray {cls.command}",
        usage=usage(cls),
        description=cls.__doc__,
        epilog=f"{notes}examples:\n{examples(cls, cls.examples)}\n\n{LAYERS}",
        formatter_class=Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    options = options_of(cls)
    for argument, name in cls.positionals.items():
        description = options[tuple(name.split("."))].description
        parser.add_argument(argument, nargs="?", default=SUPPRESS, help=plain(description))
    # Before parsing, `_parse` handles --help, which depends on the other arguments.
    parser.add_argument(
        "-h", "--help", action="store_true", default=SUPPRESS, help="Show the common options."
    )
    parser.add_argument("--help-all", action="help", help="Show this help and exit.")
    # `_spell_out` replaces these flags; they are here for the help.
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=SUPPRESS,
        help="Show warnings and errors only.",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=SUPPRESS, help="Log debug messages, too."
    )
    return parser


def _parse(cls: type[Command], parser: ArgumentParser, args: list[str]) -> Namespace:
    if is_requested(args):
        print(short_help(cls, parser, args), end="")
        parser.exit()
    # Intermixed: positional arguments may follow flags.
    namespace, extra = parser.parse_known_intermixed_args(args)
    for arg in extra:
        if arg.startswith("-") and arg != "--":
            _refuse(cls, arg.partition("=")[0])
    if extra:
        advice = (
            "separate the entries of an option with commas: a=1,b=2"
            if re.match(r"[\w.]+=", extra[-1])
            else "put quotes around names with spaces, and around patterns such as 'shards/*.tar', "
            "which the shell otherwise replaces with the names of the files"
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
        raise ValueError(f"unknown flag {flag}; see --help-all")
    path = tuple(flag.lstrip("-").replace("-", "_").split("."))
    same = [option for option in options_of(cls) if option[-1] == path[-1]]
    layer = Layer("flag", {})
    if len(path) == 1 and len(same) > 1:
        names = " or ".join(layer.spell(option) for option in same)
        raise ValueError(f"{flag} is ambiguous: it can be {names}; write the full name")
    raise ValueError(describe_unknown(cls, layer, path))


def _add_argument(parser: Any, *names: str, **kwargs: Any) -> None:
    if kwargs.get("const") == "{}":
        return  # pydantic-settings also offers each section as JSON; YAML files cover that case
    text = without_empty_default(kwargs.pop("help"))
    if metavar := kwargs.get("metavar"):
        # A choice within a choice, {{a,b},c}, is one choice to the user.
        flat = "{" + re.sub("[{}]", "", metavar) + "}" if metavar.startswith("{{") else metavar
        kwargs["metavar"] = METAVARS.get(metavar, flat)
    # pydantic-settings has already doubled each %, and `plain` does it again.
    parser.add_argument(*names, help=plain(text.replace("%%", "%")), **kwargs)


def _add_group(parser: ArgumentParser, title: str, description: str) -> Any:
    return parser.add_argument_group(title.removesuffix(" options"), plain(description))
