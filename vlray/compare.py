"""``vlray compare A B``: compare two region outputs for the same images, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from vlray.runs.session import Session


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the comparison."""
    with Session("compare") as session:
        from vlray.config.compare import CompareConfig
        from vlray.settings.reader import from_cli

        config = from_cli(CompareConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.comparison.command import run
        from vlray.formats.imported import imported

        def open_outputs() -> AbstractContextManager[Mapping[str, str]]:
            return imported(
                {"A": config.a, "B": config.b},
                trust_pickle=config.trust_pickle,
                images=config.images_root,
                sizes=config.sizes,
                id_rule=config.id_rule,
            )

        run(config, session, open_outputs)


if __name__ == "__main__":
    main()
