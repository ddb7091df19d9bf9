"""``vlray env``: show and change the user's ``settings.yaml``, which applies to all runs.

The command uses plain argparse and reads no settings, so that it can repair a broken file.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from vlray.runs.session import Session
from vlray.settings import secrets

EPILOG = """\
examples:
  python -m vlray.env set project nlvr2
  python -m vlray.env set env.data_dir data/
  python -m vlray.env set detector.max_boxes 100
  python -m vlray.env set models.mine path/to/file.py:Detector
  python -m vlray.extract photos/ regions/ --detector.name mine
  python -m vlray.env unset detector.max_boxes

KEY is an option of any command, as in its --help, or models.NAME. The latter stores a class or a
file under a name, which --detector.name or --model.name then accepts. Stored options apply to all
runs. A flag, a VLRAY_* variable or a --config file overrides them."""


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, then show or change the file."""
    with Session("env"):
        from vlray.settings import state

        args = _parser().parse_args(argv)
        if args.action == "set":
            _check_name(args.key)
            secrets.show(f"{args.key} = {state.store(args.key, args.value)}")
        elif args.action == "unset":
            state.remove(args.key)
        elif args.action == "path":
            secrets.show(state.settings_path())
        else:
            _show()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "vlray env",
        description="Show and change your settings.yaml, whose options apply to all runs.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="show|set|unset|path")
    actions.add_parser("show", help="List the stored options and their commands (default).")
    setter = actions.add_parser("set", help="Store an option, or a model under a name.")
    setter.add_argument("key", metavar="KEY")
    setter.add_argument("value", metavar="VALUE")
    unset = actions.add_parser("unset", help="Remove a stored option or model.")
    unset.add_argument("key", metavar="KEY")
    actions.add_parser("path", help="Print the path of the file.")
    return parser


def _check_name(key: str) -> None:
    """Refuse ``data.images.DATASET`` if the images of the dataset have another name."""
    section, _, rest = key.partition(".")
    kind, _, name = rest.partition(".")
    if section == "data" and kind in ("images", "annotations") and name:
        from vlray.tasks.image_sets import check_names  # slow to import

        check_names(kind, [name])


def _show() -> None:
    from vlray.settings import state
    from vlray.settings.text_table import align

    rows = [
        (".".join(path), str(value), ", ".join(_users(path)))
        for path, value in state.entries().items()
    ]
    if not rows:
        secrets.show(f"No options are set in {state.settings_path()}; see vlray env --help.")
        return
    rows.insert(0, ("key", "value", "used by"))
    secrets.show("\n".join(align(rows)))


def _users(path: tuple[str, ...]) -> list[str]:
    """Return the names of the commands that use an entry, or a note that there are none."""
    from vlray.settings.commands import commands_with

    name = ("detector", "name") if path[0] == "models" else path
    return commands_with(name) or ["none: unknown"]


if __name__ == "__main__":
    main()
