"""``vlray train DATA REGIONS OUT``: regions and a dataset in, a trained model out."""

from __future__ import annotations

from vlray.config.train import TrainConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then train."""
    config = from_cli(TrainConfig, argv)
    from vlray.engine.command import run

    run(config)


if __name__ == "__main__":
    main()
