"""``vlray extract IMAGES OUT``: images in, Parquet of regions out."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run the pipeline."""
    again = "what is written stays; run the same command again to finish what is missing"
    with Session("extract", again) as session:
        from vlray.config.extract import ExtractConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ExtractConfig, argv)
        from vlray.stream.command import run

        run(config, session)


if __name__ == "__main__":
    main()
