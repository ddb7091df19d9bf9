"""``vlray view OUT``: the regions of an output as annotated images and a gallery page."""

from __future__ import annotations

from vlray.config.view import ViewConfig
from vlray.settings.reader import from_cli


def main(argv: list[str] | None = None) -> None:
    """Read the options, then draw."""
    config = from_cli(ViewConfig, argv)
    from vlray.gallery.command import run

    run(config)


if __name__ == "__main__":
    main()
