"""Protocols for datasets and layouts, both built-in and your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from vlray.tasks.example import Example
from vlray.tasks.problems import Problems
from vlray.tasks.spec import DatasetSpec

Files = Mapping[str, tuple[str, ...]]
"""Annotation files of a split, keyed by role: one or more absolute paths or URIs per role."""


class Layout(Protocol):
    """Function that reads the files of one split; ``spec.layout`` names the function.

    ``ROLES`` in the function's module lists the files to read: ``{"questions": "required",
    "annotations": "optional"}``. ``options`` has the split's options and ``id_rule``. Reading
    is lazy: the function yields each example as soon as the example is read, in constant memory.
    Faulty entries are counted in ``problems`` and raise no exception. If a whole file has the
    wrong format, the function raises a `ValueError`.
    """

    def __call__(
        self, files: Files, problems: Problems, options: Mapping[str, str]
    ) -> Iterator[Example]:
        """Yield the examples in the order of the files. Image ids follow ``id_rule``."""
        ...


class VisionLanguageDataset(Protocol):
    """A dataset in the catalogue, or a user's class, specified as ``module:Class``."""

    @property
    def spec(self) -> DatasetSpec:
        """Description of the dataset; may be a plain class attribute."""
        ...

    def read(self, split: str, files: Files, problems: Problems) -> Iterator[Example]:
        """Yield the examples of a split lazily; handle faulty input as in `Layout`."""
        ...
