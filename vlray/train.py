"""``vlray train DATA REGIONS OUT``: train a model on a dataset and the regions of its images."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the training."""
    again = "run the same command again to resume from the last checkpoint"
    with Session("train", again) as session:
        from vlray.config.train import TrainConfig
        from vlray.settings.reader import from_cli

        config = from_cli(TrainConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.engine.command import run

        run(config, session)


if __name__ == "__main__":
    main()
