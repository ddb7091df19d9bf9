"""``vlray tune OUT --space ... -- COMMAND``: search for the best options of a command."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the search."""
    again = "finished trials are kept; run the same command again to resume"
    with Session("tune", again) as session:
        from vlray.config.tune import TuneConfig
        from vlray.settings.reader import from_cli

        config = from_cli(TuneConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.tuning.command import run

        run(config, session)


if __name__ == "__main__":
    main()
