"""Options of the output."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vlray.settings.section import Section


class OutputSection(Section):
    """Where the regions go, and in what form."""

    path: Annotated[str, Field(min_length=1)]
    """Folder or URI for the Parquet files. An output of the same settings is continued."""

    dtype: Literal["float16", "float32"] = "float16"
    """Precision of ``visual_feats``."""

    compression: Literal["zstd", "none"] = "zstd"
    """Compression of the Parquet files."""

    shard_size: Annotated[int, Field(ge=1)] = 32
    """Images per output file, which is also the unit of work: what a crash loses at most."""

    retry_failures: bool = False
    """Whether images that failed in an earlier run are tried again."""

    on_changed: Literal["redo", "refuse"] = "redo"
    """What happens where images have changed since they were extracted: they are done again, or the
    run ends before it begins. An image has changed if its file has another size, or another time
    and other content."""
