"""``vlray doctor``: check the installation, and repair it."""

from __future__ import annotations

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then check and repair."""
    with Session("doctor", again=""):
        from vlray.config.doctor import DoctorConfig
        from vlray.settings.reader import from_cli

        config = from_cli(DoctorConfig, argv)
        from vlray.installation.command import run

        run(config)


if __name__ == "__main__":
    main()
