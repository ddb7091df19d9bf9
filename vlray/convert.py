"""``vlray convert SOURCE OUT``: convert region files from or to other tools' formats."""

from __future__ import annotations

import sys

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the conversion."""
    again = "written files are kept; run the same command again to resume"
    with Session("convert", again) as session:
        from vlray.config.convert import ConvertConfig
        from vlray.settings.reader import from_cli

        if "--formats" in (sys.argv[1:] if argv is None else argv):
            from vlray.config.formats import list_formats

            print(list_formats())
            return
        config = from_cli(ConvertConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.formats.command import run

        run(config, session)


if __name__ == "__main__":
    main()
