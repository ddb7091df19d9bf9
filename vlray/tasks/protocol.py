"""Protocols of datasets and layouts, for vlray's own classes and for yours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from vlray.tasks.example import Example
from vlray.tasks.problems import Problems
from vlray.tasks.spec import DatasetSpec

Files = Mapping[str, tuple[str, ...]]
"""Annotation files of a split by role: absolute paths or URIs, one or several per role."""


class Layout(Protocol):
    """Function that reads the files of one split. ``spec.layout`` names it.

    ``ROLES`` of its module lists the files that it reads: ``{"questions": "required",
    "annotations": "optional"}``. ``options`` are the options of the split and ``id_rule``. Reading
    is lazy: the function yields each example as soon as it has read it, in constant memory.
    Faulty entries are counted in ``problems`` and raise no exception. A file that has another
    format as a whole raises a `ValueError`.
    """

    def __call__(
        self, files: Files, problems: Problems, options: Mapping[str, str]
    ) -> Iterator[Example]:
        """Yield the examples in the order of the files. Image ids follow ``id_rule``."""
        ...


class VisionLanguageDataset(Protocol):
    """A dataset of the catalogue, or a user's class, named as ``module:Class``."""

    @property
    def spec(self) -> DatasetSpec:
        """Description of the dataset; may be a plain class attribute."""
        ...

    def read(self, split: str, files: Files, problems: Problems) -> Iterator[Example]:
        """Yield the examples of a split lazily; handle faulty input as in `Layout`."""
        ...
