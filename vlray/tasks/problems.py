"""What is wrong with a dataset's files: counted by kind, said once, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OnBad = Literal["skip", "stop"]

EXAMPLES_SHOWN = 3

KINDS: Mapping[str, tuple[str, str]] = {
    "broken-line": (
        "line or entry that cannot be read",
        "lines or entries that cannot be read",
    ),
    "incomplete": (
        "entry that lacks what an example needs",
        "entries that lack what an example needs",
    ),
    "duplicate-id": (
        "example whose id another one has (the first is kept)",
        "examples whose id another one has (the first is kept)",
    ),
    "no-image": ("annotation without an image", "annotations without an image"),
    "no-annotation": ("question without an annotation", "questions without an annotation"),
    "no-question": ("annotation without a question", "annotations without a question"),
    "bad-box": (
        "box without area or outside its image",
        "boxes without area or outside their image",
    ),
    "unknown-answer": (
        "example whose answers are all outside the vocabulary of labels",
        "examples whose answers are all outside the vocabulary of labels",
    ),
    "no-regions": (
        "example with an image that has no regions",
        "examples with an image that has no regions",
    ),
}
"""Every kind, and what is counted under it: one of them, and several."""


class DataError(ValueError):
    """Something is wrong with a dataset's data, and the setting says to stop then."""


@dataclass
class Problems:
    """Counts of what was left out, or cannot be answered, with the first examples of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem.

        Args:
            kind: One of `KINDS`.
            example: What and where, such as ``line 7 of train.json: Expecting value``.
            count: How many at once; ``example`` is then the first of them.
        """
        assert kind in KINDS, kind
        self.counts[kind] = self.counts.get(kind, 0) + count
        shown = self.examples.setdefault(kind, [])
        if len(shown) < EXAMPLES_SHOWN:
            shown.append(example)

    def merge(self, other: Problems) -> None:
        """Count another's problems too."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            shown = self.examples.setdefault(kind, [])
            shown += other.examples[kind][: EXAMPLES_SHOWN - len(shown)]

    def __len__(self) -> int:
        """Give the number of problems of all kinds."""
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """Say each kind in a line: its count and the first examples."""
        return [
            f"{count:,} {KINDS[kind][count != 1]}, such as {'; '.join(self.examples[kind])}"
            for kind, count in sorted(self.counts.items())
        ]

    def check(self, on_bad: OnBad, name: str) -> None:
        """Stop if there are problems and the setting says so.

        Raises:
            DataError: With every kind, its count and examples.
        """
        if self.counts and on_bad == "stop":
            lines = "\n".join(f"  {line}" for line in self.lines())
            raise DataError(f"{name}:\n{lines}\nMend the files, or leave these out: on_bad skip")
