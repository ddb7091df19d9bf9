"""``vlray convert SOURCE OUT``: other tools' region files in and out."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Read the options, then convert."""
    again = "what is written stays; run the same command again to finish what is missing"
    with Session("convert", again) as session:
        from vlray.config.convert import ConvertConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ConvertConfig, argv)
        from vlray.formats.command import run

        run(config, session)


if __name__ == "__main__":
    main()
