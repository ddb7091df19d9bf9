"""``vlray pipeline``: the steps of a file, one after another."""

from __future__ import annotations

from vlray.config.pipeline import PipelineConfig


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run."""
    config = PipelineConfig.from_cli(argv)
    from vlray.pipelines.command import run

    run(config)


if __name__ == "__main__":
    main()
