"""``vlray COMMAND ...``, which is the same as ``python -m vlray.COMMAND ...``."""

from __future__ import annotations

import sys
from importlib import import_module

from vlray.settings.text_table import align
from vlray.settings.wording import did_you_mean

COMMANDS = {
    "demo": "Extract regions of sample photographs and make a gallery page.",
    "extract": "Detect the regions of images and write them to Parquet files.",
    "view": "Draw regions on their images and make a gallery page.",
    "convert": "Import region files of other tools, or export to their formats.",
    "compare": "Compare two outputs of the same images, box by box.",
    "datasets": "List vision-language datasets, check their files, score predictions.",
    "train": "Train LXMERT, VisualBERT or your own model on regions.",
    "test": "Test a trained model: metrics, submission file, page of examples.",
    "export": "Write a checkpoint as a folder for plain transformers.",
    "tune": "Search the best options of an extraction or a training.",
    "pipeline": "Run several commands as the steps of one YAML file.",
    "logs": "List the runs of a project, or show the log of one run.",
    "env": "Show and change your settings.yaml, which applies to all runs.",
    "configs": "List the configuration files that vlray brings, or copy them.",
    "doctor": "Check the installation, and install Detectron2 where it is missing.",
}


def main(argv: list[str] | None = None) -> None:
    """Run the command named by the first argument, importing only that command's modules."""
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
    elif args[0] in {"-V", "--version"}:
        from importlib.metadata import version

        from vlray.installation.versions import versions_line

        print(f"vlray {version('vlray')}\n{versions_line()}")
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
        "vlray COMMAND --help shows the options and examples of a command; vlray --version prints\n"
        "the versions of vlray and of the packages that it uses."
    )


def _unknown(word: str) -> str:
    names = ", ".join(COMMANDS)
    if word.startswith("-"):
        return f"unknown flag {word}; begin with a command: {names}"
    return f"unknown command {word}; {did_you_mean(word, COMMANDS)}the commands are {names}"


if __name__ == "__main__":
    main()
