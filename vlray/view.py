"""``vlray view OUT``: draw regions on their images and make a gallery page."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then draw."""
    with Session("view") as session:
        from vlray.config.view import ViewConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ViewConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.gallery.command import run

        run(config, session)


if __name__ == "__main__":
    main()
