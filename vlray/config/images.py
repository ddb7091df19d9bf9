"""Options of the images."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from vlray.settings.section import Section


def check_id_rule(rule: str) -> str:
    """Refuse what is no rule by which names become ids.

    Raises:
        ValueError: It is none of the rules, or its regular expression is none.
    """
    kind, _, pattern = rule.partition(":")
    if kind == "regex" and pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    elif rule not in {"stem", "path", "coco"}:
        raise ValueError("give stem, path, coco or regex:PATTERN")
    return rule


class ImagesSection(Section):
    """Which images, and what they are called."""

    root: Annotated[str, Field(min_length=1)]
    """A directory, an image, a list file, or a URI such as ``s3://bucket/photos``. What does not
    exist here may be the name of an image set (``data.images``) or of a dataset that
    ``vlray datasets list`` shows, or a relative path in ``env.data_dir``."""

    dataset: str = ""
    """Name of the dataset. Empty: the name of the image set, or of the directory."""

    id_rule: str = ""
    """How a file's name becomes its image_id: ``stem`` (no folder, no extension), ``path`` (no
    extension), ``coco`` (the number alone: COCO_train2014_000000084002.jpg is 84002), or
    ``regex:PATTERN``, searched in the path: its group ``id``, else its first, else the match.
    Empty: the rule of the image set that IMAGES names; ``stem`` for anything else."""

    follow_symlinks: bool = True
    """Whether links to directories are entered."""

    max_pixels: Annotated[int, Field(ge=1)] = 178_956_970
    """An image of more pixels (height x width) is not decoded but becomes a failure."""

    @field_validator("id_rule")
    @classmethod
    def _check_id_rule(cls, rule: str) -> str:
        return rule and check_id_rule(rule)
