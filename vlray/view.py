"""``vlray view OUT``: the regions of an output as annotated images and a gallery page."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Read the options, then draw."""
    with Session("view") as session:
        from vlray.config.view import ViewConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ViewConfig, argv)
        from vlray.gallery.command import run

        run(config, session)


if __name__ == "__main__":
    main()
