"""Options of the output."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vlray.settings.section import Section


class OutputSection(Section):
    """Destination and format of the regions."""

    path: Annotated[str, Field(min_length=1)]
    """Folder or URI for the Parquet files. An existing output with the same settings is resumed."""

    dtype: Literal["float16", "float32"] = "float16"
    """Precision of ``visual_feats``."""

    compression: Literal["zstd", "none"] = "zstd"
    """Compression of the Parquet files."""

    shard_size: Annotated[int, Field(ge=1)] = 32
    """Images per output file, which is also the unit of work: a crash loses at most the files that
    are unfinished."""

    tags: bool = False
    """Whether to add the column ``tags``: the names of an image's classes, in the order of its
    regions, separated by spaces. Oscar and models on VinVL's features read them as text."""

    retry_failures: bool = False
    """Whether to retry images that failed in an earlier run."""

    on_changed: Literal["redo", "refuse"] = "redo"
    """What to do if images have changed since they were extracted: extract them again (``redo``),
    or stop with an error (``refuse``). An image has changed if its file has another size, or
    another modification time and other content."""
