"""``vlray datasets``: list, inspect and check vision-language datasets."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the action."""
    with Session("datasets") as session:
        from vlray.config.datasets import DatasetsConfig
        from vlray.settings.reader import from_cli

        config = from_cli(DatasetsConfig, argv)
        from vlray.tasks.command import run

        run(config, session)


if __name__ == "__main__":
    main()
