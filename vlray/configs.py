"""``vlray configs list|copy``: the configuration files that vlray brings."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then list or copy files."""
    with Session("configs", again=""):
        from vlray.config.configs import ConfigsConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ConfigsConfig, argv)
        from vlray.installation.configs import run

        run(config)


if __name__ == "__main__":
    main()
