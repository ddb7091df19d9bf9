"""``vlray COMMAND ...``: the same as ``python -m vlray.COMMAND ...``."""

from __future__ import annotations

import sys
from importlib import import_module

from vlray.settings.text_table import align
from vlray.settings.wording import did_you_mean

COMMANDS = {
    "demo": "The main job on photographs, from nothing to a page to look at.",
    "extract": "Detect the regions of images and write them as Parquet.",
    "view": "Draw the regions of an output and put them into a gallery page.",
    "convert": "Import region files of other tools, or export to their formats.",
    "compare": "Compare two outputs of the same images, box by box.",
    "datasets": "List vision-language datasets, check their files, score predictions.",
    "train": "Train LXMERT, VisualBERT or a model of your own on regions.",
    "test": "Test a trained model: metrics, the official file, a page of examples.",
    "tune": "Search thresholds, sizes or training options for the best ones.",
    "pipeline": "Run several commands as the named steps of one file.",
    "logs": "List the runs of a project, and follow the log of one.",
    "env": "Show and change the settings that last.",
}


def main(argv: list[str] | None = None) -> None:
    """Run the command that the first argument names; only its modules are imported."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
    elif args[0] in {"-V", "--version"}:
        from importlib.metadata import version

        print(f"vlray {version('vlray')}")
    elif args[0] in COMMANDS:
        import_module(f"vlray.{args[0]}").main(args[1:])
    else:
        sys.stderr.write(f"vlray: {_unknown(args[0])}\n")
        sys.exit(2)


def _help() -> str:
    table = "\n".join(f"  {line}" for line in align([*COMMANDS.items()]))
    return (
        "usage: vlray COMMAND ... (or python -m vlray.COMMAND ...)\n\n"
        f"commands:\n{table}\n\n"
        "vlray COMMAND --help explains each with examples; vlray --version names the version."
    )


def _unknown(word: str) -> str:
    names = ", ".join(COMMANDS)
    if word.startswith("-"):
        return f"unknown flag {word}; give the command first: one of {names}"
    return f"unknown command {word}; {did_you_mean(word, COMMANDS)}There are {names}"


if __name__ == "__main__":
    main()
