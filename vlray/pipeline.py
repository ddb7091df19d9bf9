"""``vlray pipeline FILE.yaml``: run the steps that a YAML file defines."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the steps."""
    with Session("pipeline", "run the same pipeline again to resume") as session:
        from vlray.config.pipeline import PipelineConfig
        from vlray.settings.reader import from_cli

        config = from_cli(PipelineConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.pipelines.command import run

        run(config, session)


if __name__ == "__main__":
    main()
