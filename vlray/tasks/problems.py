"""Problems in a dataset's files, counted by kind and reported once, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OnBad = Literal["skip-entries", "skip", "stop"]
"""Which problems end a command: those in `FATAL`, none, or all."""

EXAMPLES_SHOWN = 3

KINDS: Mapping[str, tuple[str, str]] = {
    "cut-off": (
        "file that cannot be read to its end",
        "files that cannot be read to their end",
    ),
    "broken-line": (
        "unreadable line or entry",
        "unreadable lines or entries",
    ),
    "incomplete": (
        "entry with a missing or invalid field",
        "entries with a missing or invalid field",
    ),
    "duplicate-id": (
        "example with a duplicate id (the first is kept)",
        "examples with a duplicate id (the first is kept)",
    ),
    "no-image": ("annotation without an image", "annotations without an image"),
    "no-annotation": ("question without an annotation", "questions without an annotation"),
    "no-question": ("annotation without a question", "annotations without a question"),
    "bad-box": (
        "box without area or outside its image",
        "boxes without area or outside their image",
    ),
    "unknown-answer": (
        "example without an answer among the labels",
        "examples without an answer among the labels",
    ),
    "no-regions": (
        "example with an image that has no regions",
        "examples with an image that has no regions",
    ),
}
"""Description of each kind of problem, in the singular and in the plural."""


FATAL = frozenset({"cut-off"})
"""Problems that concern an unknown number of examples."""

HARMLESS = frozenset({"bad-box", "unknown-answer"})
"""Problems of examples that are kept."""


class DataError(ValueError):
    """Raised if a dataset's files have problems and ``on_bad`` is ``stop``."""


WAY_OUT = (
    "Correct the files or download them again, or leave these examples out with --data.on-bad skip"
)


@dataclass
class Problems:
    """Number of problems of each kind, with the first few examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem.

        Args:
            kind: One of `KINDS`.
            example: Place and description, such as ``line 7 of train.json: Expecting value``.
            count: Number of problems to add; ``example`` describes the first of them.
        """
        assert kind in KINDS, kind
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES_SHOWN:
            examples.append(example)

    def merge(self, other: Problems) -> None:
        """Add the counts and examples from another object."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            examples = self.examples.setdefault(kind, [])
            examples += other.examples[kind][: EXAMPLES_SHOWN - len(examples)]

    def __len__(self) -> int:
        """Return the total number of problems."""
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """Format one line per kind, with its count and first examples."""
        return [
            # A comparison as index: False (0) is the singular, True (1) the plural.
            f"{count:,} {KINDS[kind][count != 1]}, such as {'; '.join(self.examples[kind])}"
            for kind, count in sorted(self.counts.items())
        ]

    @property
    def left_out(self) -> str:
        """Kinds and numbers of problems that leave examples out, for use beside a metric."""
        return ", ".join(
            f"{count:,} {KINDS[kind][count != 1]}"
            for kind, count in sorted(self.counts.items())
            if kind not in HARMLESS
        )

    def stop(self, on_bad: OnBad) -> bool:
        """Return whether the problems end a command."""
        return bool(self.counts) and (
            on_bad == "stop" or (on_bad == "skip-entries" and not FATAL.isdisjoint(self.counts))
        )

    def check(self, on_bad: OnBad, name: str) -> None:
        """Raise an error if there are problems that ``on_bad`` does not allow.

        Raises:
            DataError: The message lists every kind with its count and examples.
        """
        if self.stop(on_bad):
            lines = "\n".join(f"  {line}" for line in self.lines())
            raise DataError(f"{name}:\n{lines}\n{WAY_OUT}")
