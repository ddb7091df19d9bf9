"""Base class for groups of options."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

LOCATION = "a folder or a URI"

Location = Annotated[str, LOCATION]
"""Folder or URI; ``vlray env set`` stores a relative folder as an absolute one."""

CODE = "may name a class"

Code = Annotated[str, CODE]
"""Name that may be ``module:Class`` or ``file.py:Class``; a file alone does not decide it."""


class Section(BaseModel):
    """A frozen group of options; the docstring under a field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
