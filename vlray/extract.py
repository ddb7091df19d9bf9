"""``vlray extract IMAGES OUT``: detect regions in images and write them to Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vlray.runs.session import Session

if TYPE_CHECKING:
    from vlray.stream.run import ExtractResult


def main(argv: list[str] | None = None) -> None:
    """Parse the options, then run the extraction."""
    again = "written files are kept; run the same command again to resume"
    with Session("extract", again) as session:
        from vlray.config.extract import ExtractConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ExtractConfig, argv)
        # After the options, so that --help and mistakes need neither torch nor Ray.
        from vlray.stream.command import run

        run(config, session)


class _Extract(ModuleType):
    """Callable module: ``vlray.extract`` is both the command and a Python API function."""

    def __call__(
        self, images: str | Path, out: str | Path, detector: str = "lite", **options: Any
    ) -> ExtractResult:
        """Extract regions from images; see `vlray.stream.api.extract_regions`."""
        from vlray.stream.api import extract_regions

        return extract_regions(images, out, detector, **options)


if __name__ == "__main__":
    main()
else:
    # Calling the module looks up __call__ in its class, which Python allows to be replaced.
    sys.modules[__name__].__class__ = _Extract
