"""``vlray logs``: the runs of a project, and what they say."""

from __future__ import annotations

from vlray.config.logs import LogsConfig


def main(argv: list[str] | None = None) -> None:
    """Read the options, then list or show."""
    config = LogsConfig.from_cli(argv)
    from vlray.runs.command import run

    run(config)


if __name__ == "__main__":
    main()
