"""Help of a command: a short page by default, all options with ``--help-all``."""

from __future__ import annotations

import re
import textwrap
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter

from vlray.settings.base import ActionHelp, Command
from vlray.settings.options import options_of

LAYERS = """\
Short names: the last part of an option's name suffices where it is unique (--min-boxes 10).
Each option can be set in four places. The first place in this list that sets it wins:
  1. a flag                    --detector.min-boxes 10
  2. an environment variable   VLRAY_DETECTOR__MIN_BOXES=10
  3. a --config FILE.yaml      detector: {min_boxes: 10}
  4. your settings.yaml        vlray env set detector.min_boxes 10"""

SHORT_EXAMPLES = 3
SHORT_TEXT = 260  # characters of an option's help in the short help


class Formatter(RawDescriptionHelpFormatter):
    """argparse's formatter, with one name for each option."""

    def __init__(self, prog: str) -> None:
        # Most flags are longer than the 24 columns of argparse.
        super().__init__(prog, max_help_position=32)

    def _format_action_invocation(self, action: Action) -> str:
        """Show the full name only; the epilog explains short names once for all options."""
        if action.nargs == 0:
            return ", ".join(action.option_strings[:2])
        if action.option_strings:
            return f"{action.option_strings[0]} {action.metavar}"
        return super()._format_action_invocation(action)


class _ShortFormatter(Formatter):
    def _expand_help(self, action: Action) -> str:
        """Show the first sentences only; --help-all shows the rest."""
        text, default, value = super()._expand_help(action).partition(" (default:")
        sentences = re.split(r"(?<=\.) (?=[A-Z])", text)
        while len(sentences) > 1 and len(" ".join(sentences)) > SHORT_TEXT:
            sentences.pop()
        return " ".join(sentences) + default + value

    def _format_action_invocation(self, action: Action) -> str:
        """Show the short name, which users type."""
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = sorted(action.option_strings, key=lambda name: "." in name)
        short = [name for name in names if ("." in name) == ("." in names[0])]
        return ", ".join(short) if action.nargs == 0 else f"{short[0]} {action.metavar}"


def usage(cls: type[Command]) -> str:
    """Return the one-line usage of a command."""
    return " ".join(["vlray", cls.command, *cls.positionals, "[options]"])


def is_requested(args: list[str]) -> bool:
    """Return whether the arguments before a ``--`` contain ``-h`` or ``--help``."""
    before = args[: args.index("--")] if "--" in args else args
    return "-h" in before or "--help" in before


def short_help(cls: type[Command], parser: ArgumentParser, args: list[str]) -> str:
    """Return the short help of a command, or of the action that the arguments name.

    Args:
        cls: Settings class of the command.
        parser: Its parser, with all options.
        args: Arguments of the command line; the first that names an action selects it.
    """
    action = next((arg for arg in args if arg in cls.actions), "")
    page = cls.actions[action] if action else _page(cls)
    actions = {one.dest: one for one in parser._actions}  # argparse has no public list of them
    formatter = _ShortFormatter(parser.prog)
    formatter.add_usage(page.usage, [], [])
    # This formatter keeps texts as they are, without wrapping them.
    formatter.add_text(textwrap.fill(page.description, 80))
    if not action:
        formatter.start_section("positional arguments")
        formatter.add_arguments([one for one in parser._actions if not one.option_strings])
        formatter.end_section()
    if page.options:
        formatter.start_section("options" if action or not cls.common else "common options")
        formatter.add_arguments([actions[name] for name in page.options])
        formatter.end_section()
    formatter.add_text(page.notes)
    formatter.add_text("examples:\n" + examples(cls, page.examples))
    formatter.add_text(
        f"vlray {cls.command} --help-all explains all {len(options_of(cls))} options, and how to "
        "set them\nin files and in environment variables. -q shows warnings only, -v debug messages"
        " as well."
    )
    return formatter.format_help()


def _page(cls: type[Command]) -> ActionHelp:
    """Return the short help of a command without actions, or of no particular action."""
    shared = {".".join(path) for path in options_of(Command)}
    positional = set(cls.positionals.values())
    rest = [".".join(path) for path in options_of(cls)]
    options = cls.common or tuple(n for n in rest if n not in shared and n not in positional)
    summary = "\n".join(f"  {one.usage}" for one in cls.actions.values())
    notes = f"actions (vlray {cls.command} ACTION --help explains each):\n{summary}\n\n"
    return ActionHelp(
        usage=usage(cls),
        description=cls.__doc__ or "",
        options=options,
        examples=cls.examples[:SHORT_EXAMPLES],
        notes=(notes if cls.actions else "") + cls.notes,
    )


def examples(cls: type[Command], lines: tuple[str, ...]) -> str:
    """Return example commands, indented, one per line."""
    return "\n".join(f"  vlray {cls.command} {line}" for line in lines)


def plain(text: str | None) -> str:
    """Convert a docstring to argparse's help format: one line, no markup, % doubled."""
    return " ".join((text or "").replace("``", "").split()).replace("%", "%%")


def without_empty_default(text: str) -> str:
    """Drop "(default: )" for an empty default: the help text says what an empty value means."""
    return re.sub(r" \(default: (|\(\)|\{\}|\.)\)$", "", text)
