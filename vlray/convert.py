"""``vlray convert SOURCE OUT``: other tools' region files in and out."""

from __future__ import annotations

from vlray.config.convert import ConvertConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run."""
    config = from_cli(ConvertConfig, argv)
    from vlray.formats.command import run

    run(config)


if __name__ == "__main__":
    main()
