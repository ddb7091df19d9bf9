"""``vlray compare A B``: compare two region outputs for the same images, box by box."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the comparison."""
    with Session("compare") as session:
        from vlray.config.compare import CompareConfig
        from vlray.settings.reader import from_cli

        config = from_cli(CompareConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.comparison.command import run

        run(config, session)


if __name__ == "__main__":
    main()
