"""``vlray export CHECKPOINT DIR``: write a checkpoint as a folder for plain transformers."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then write the folder."""
    with Session("export", again=""):
        from vlray.config.export import ExportConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ExportConfig, argv)
        # After the options, so that --help and mistakes need no torch.
        from vlray.models.export import run

        run(config)


if __name__ == "__main__":
    main()
