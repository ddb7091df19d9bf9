"""``vlray test CHECKPOINT DATA``: a trained model and a split in, metrics and files out."""

from __future__ import annotations

from vlray.config.test import TestConfig


def main(argv: list[str] | None = None) -> None:
    """Read the options, then test."""
    config = TestConfig.from_cli(argv)
    from vlray.evaluation.command import run

    run(config)


if __name__ == "__main__":
    main()
