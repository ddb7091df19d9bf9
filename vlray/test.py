"""``vlray test CHECKPOINT DATA``: a trained model and a split in, metrics and files out."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Read the options, then test."""
    with Session("test") as session:
        from vlray.config.test import TestConfig
        from vlray.settings.reader import from_cli

        config = from_cli(TestConfig, argv)
        from vlray.evaluation.command import run

        run(config, session)


if __name__ == "__main__":
    main()
