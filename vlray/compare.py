"""``vlray compare A B``: compare two outputs of the same images, box by box."""

from __future__ import annotations

from vlray.config.compare import CompareConfig


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run."""
    config = CompareConfig.from_cli(argv)
    from vlray.comparison.command import run

    run(config)


if __name__ == "__main__":
    main()
