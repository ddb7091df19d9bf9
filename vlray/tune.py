"""``vlray tune``: options in, the best of them out."""

from __future__ import annotations

from vlray.config.tune import TuneConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run."""
    config = from_cli(TuneConfig, argv)
    from vlray.tuning.command import run

    run(config)


if __name__ == "__main__":
    main()
