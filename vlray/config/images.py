"""Options of the images."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from vlray.settings.base import Splits
from vlray.settings.section import Section


def check_id_rule(rule: str) -> str:
    """Check a rule that turns file names into image ids, and return it.

    Raises:
        ValueError: The rule is unknown, or its regular expression is not valid.
    """
    kind, _, pattern = rule.partition(":")
    if kind == "regex" and pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a valid regular expression: {error}") from error
    elif rule not in {"stem", "path", "key", "coco"}:
        raise ValueError(
            f"{rule!r} is not a valid id rule; use stem, path, key, coco or regex:PATTERN"
        )
    return rule


class ImagesSection(Section):
    """Which images to read, and how to name them."""

    root: Annotated[str, Field(min_length=1)]
    """A directory, an image, an archive (``.tar``, ``.tar.gz``, ``.zip``), a Parquet file with
    image bytes, a list file, a CSV, TSV or Parquet file with their paths, or a quoted pattern such
    as ``'shards/{000000..000123}.tar'`` or ``'data/*.parquet'``; on a disk, in object storage, such
    as ``s3://bucket/photos``, or at an ``https://`` URL (no directories there). In a directory
    without images, the archives are read. A path that does not exist is looked up as an image set
    (``data.images``), as a dataset of ``vlray datasets list``, and as a relative path in
    ``env.data_dir``."""

    dataset: str = ""
    """Name of the dataset. Empty: the name of the image set or of the directory."""

    id_rule: str = ""
    """How to derive the image_id from the file name. ``stem``: without folder and extension.
    ``path``: without extension. ``key``: WebDataset's key, the path up to the first dot of the
    file name. ``coco``: the number alone (COCO_train2014_000000084002.jpg
    becomes 84002). ``regex:PATTERN``: searched in the path; the id is the group ``id``, else the
    first group, else the whole match. Empty: the rule of the image set that IMAGES names, else
    ``stem``."""

    exclude: Splits = ()
    """Patterns of files and folders to leave out, such as ``thumbs`` or ``*_small.jpg``, separated
    by commas, or the flag repeated. A pattern applies to names and to paths below IMAGES or in a
    list file. In a directory, hidden files, ``@eaDir`` and ``__MACOSX`` are always left out."""

    id_column: str = ""
    """Column of Parquet, CSV and TSV files with the ids. Empty: ``image_id``, ``img_id``,
    ``__key__`` or ``key``, else the file names in Hugging Face's image column, else the number of
    the row."""

    follow_symlinks: bool = True
    """Whether to follow symbolic links to directories."""

    # Twice Pillow's MAX_IMAGE_PIXELS: beyond it, Pillow refuses an image as a decompression bomb.
    max_pixels: Annotated[int, Field(ge=1)] = 178_956_970
    """Largest image to decode, in pixels (height x width). A larger image becomes a failure."""

    @field_validator("id_rule")
    @classmethod
    def _check_id_rule(cls, rule: str) -> str:
        return rule and check_id_rule(rule)
