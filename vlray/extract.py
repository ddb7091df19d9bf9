"""``vlray extract IMAGES OUT``: images in, Parquet of regions out."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vlray.runs.session import Session

if TYPE_CHECKING:
    from vlray.stream.run import ExtractResult


def main(argv: list[str] | None = None) -> None:
    """Read the options, then run the pipeline."""
    again = "what is written stays; run the same command again to finish what is missing"
    with Session("extract", again) as session:
        from vlray.config.extract import ExtractConfig
        from vlray.settings.reader import from_cli

        config = from_cli(ExtractConfig, argv)
        from vlray.stream.command import run

        run(config, session)


class _Extract(ModuleType):
    """Make this module callable: it is a command and, in the Python API, a function."""

    def __call__(
        self, images: str | Path, out: str | Path, detector: str = "lite", **options: Any
    ) -> ExtractResult:
        """Extract the regions of images; see `vlray.stream.api.extract_regions`."""
        from vlray.stream.api import extract_regions

        return extract_regions(images, out, detector, **options)


if __name__ == "__main__":
    main()
else:
    sys.modules[__name__].__class__ = _Extract
