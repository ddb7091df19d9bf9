"""``vlray extract IMAGES OUT``: images in, Parquet of regions out."""

from __future__ import annotations

from vlray.config.extract import ExtractConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run the pipeline."""
    config = from_cli(ExtractConfig, argv)
    from vlray.stream.command import run

    run(config)


if __name__ == "__main__":
    main()
