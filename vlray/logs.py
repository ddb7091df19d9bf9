"""``vlray logs``: list the runs of a project, or show the log of one run."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then list or show runs."""
    with Session("logs", again="") as session:
        from vlray.config.logs import LogsConfig
        from vlray.settings.reader import from_cli

        config = from_cli(LogsConfig, argv)
        from vlray.runs.command import run

        run(config, session)


if __name__ == "__main__":
    main()
