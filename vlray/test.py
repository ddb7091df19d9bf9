"""``vlray test CHECKPOINT DATA``: test a trained model on a split."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the test."""
    with Session("test") as session:
        from vlray.config.test import TestConfig
        from vlray.settings.reader import from_cli

        config = from_cli(TestConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.evaluation.command import run

        run(config, session)


if __name__ == "__main__":
    main()
