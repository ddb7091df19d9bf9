"""``vlray compare A B``: how two outputs of the same images differ."""

from __future__ import annotations

from vlray.config.compare import CompareConfig


def main(argv: list[str] | None = None) -> None:
    """Read the options, then compare."""
    config = CompareConfig.from_cli(argv)
    from vlray.comparison.command import run

    run(config)


if __name__ == "__main__":
    main()
