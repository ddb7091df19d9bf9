"""``vlray pipeline``: the steps of a file, one after another."""

from __future__ import annotations

from vlray.config.pipeline import PipelineConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run."""
    config = from_cli(PipelineConfig, argv)
    from vlray.pipelines.command import run

    run(config)


if __name__ == "__main__":
    main()
