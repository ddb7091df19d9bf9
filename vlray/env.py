"""``vlray env``: show and change the lasting state, the user's own ``settings.yaml``.

Its arguments are read by argparse alone: a command that repairs the layers must not read them.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from vlray.runs.session import Session

EPILOG = """\
examples:
  python -m vlray.env set project nlvr2
  python -m vlray.env set env.data_dir data/
  python -m vlray.env set detector.max_boxes 100
  python -m vlray.env set models.mine path/to/file.py:Detector
  python -m vlray.extract photos/ regions/ --detector.name mine
  python -m vlray.env unset detector.max_boxes

KEY is an option of a command, as its --help lists them, or models.NAME for a detector that
--detector.name may give by that name. What is set here holds for every run of its commands,
unless a flag, a VLRAY_* variable or a --config file says otherwise."""


def main(argv: list[str] | None = None) -> None:
    """Read the arguments, then show or change the state."""
    with Session("env"):
        from vlray.settings import state

        args = _parser().parse_args(argv)
        if args.action == "set":
            print(f"{args.key} = {state.store(args.key, args.value)}")
        elif args.action == "unset":
            state.remove(args.key)
        elif args.action == "path":
            print(state.settings_path())
        else:
            _show()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "vlray env",
        description="Show and change the settings that last: one YAML file of the user's own.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="show|set|unset|path")
    actions.add_parser("show", help="List what is set, and the commands that use it (default).")
    setter = actions.add_parser("set", help="Set an option, or store a model under a name.")
    setter.add_argument("key", metavar="KEY")
    setter.add_argument("value", metavar="VALUE")
    unset = actions.add_parser("unset", help="Take one of these back.")
    unset.add_argument("key", metavar="KEY")
    actions.add_parser("path", help="Say where the file is.")
    return parser


def _show() -> None:
    from vlray.settings import state
    from vlray.settings.text_table import align

    rows = [
        (".".join(path), str(value), ", ".join(_users(path)))
        for path, value in state.entries().items()
    ]
    if not rows:
        print(f"Nothing is set in {state.settings_path()}; see vlray env --help.")
        return
    rows.insert(0, ("key", "value", "used by"))
    print("\n".join(align(rows)))


def _users(path: tuple[str, ...]) -> list[str]:
    """Name the commands that read an entry."""
    from vlray.settings.commands import commands_with

    name = ("detector", "name") if path[0] == "models" else path
    return commands_with(name) or ["none: unknown"]


if __name__ == "__main__":
    main()
