"""What a dataset has to be: `VisionLanguageDataset`; a class of yours conforms to it as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from vlray.tasks.example import Example
from vlray.tasks.problems import Problems
from vlray.tasks.spec import DatasetSpec

Files = Mapping[str, tuple[str, ...]]
"""The split's annotation files by role: absolute paths or URIs, each role one or several."""


class Layout(Protocol):
    """Reads the files of one split: what ``spec.layout`` names.

    ``ROLES`` of its module says which files it wants: ``{"questions": "required",
    "annotations": "optional"}``. ``options`` are those of the split, and ``id_rule``. Reading is
    lazy: an example is yielded when it has been read, and memory does not grow with the files.
    What is wrong goes to ``problems``, never to an exception, unless the file as a whole is of
    another form (`ValueError` that says so).
    """

    def __call__(
        self, files: Files, problems: Problems, options: Mapping[str, str]
    ) -> Iterator[Example]:
        """Yield the examples in the order of the files; image ids by the dataset's id rule."""
        ...


class VisionLanguageDataset(Protocol):
    """A dataset of the catalogue, or a user's own class given as ``module:Class``."""

    @property
    def spec(self) -> DatasetSpec:
        """What is known of it; an attribute of the class will do."""
        ...

    def read(self, split: str, files: Files, problems: Problems) -> Iterator[Example]:
        """Yield the examples of a split, lazily; see `Layout` for bad input."""
        ...
