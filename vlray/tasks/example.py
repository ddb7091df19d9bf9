"""One example of a dataset: a text, its images and its label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answers:
    """Annotated answers or classes of an example.

    VQA has one answer per annotator and GQA a single answer; the answer is ``True`` or ``False``
    in NLVR2, and ``entailment`` or the like in SNLI-VE. A label space converts answers to a target.
    """

    answers: tuple[str, ...]
    """Answers as in the file, not normalized; VQA's ten answers in their original order."""

    scores: tuple[float, ...] = ()
    """Soft score of each answer, from files that have scores (LXMERT's). Empty: one vote each."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Candidate texts, one of which is correct, as in VCR."""

    texts: tuple[str, ...]
    correct: int = -1
    """Index of the correct text; -1 if it is not published for this split."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes in the example's (first) image, with names or phrases.

    Detection datasets have names. Grounding datasets (RefCOCO, Flickr30k Entities) have spans: the
    parts of the example's text that the boxes belong to.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    """x1, y1, x2, y2 in pixels of the original image."""

    names: tuple[str, ...] = ()
    """Class of each box, or type of the box's phrase. Empty: no names."""

    spans: tuple[tuple[int, int], ...] = ()
    """Start and end of each box's phrase in the text, in characters; boxes of the same phrase have
    the same span. Empty: no phrases."""

    attributes: tuple[tuple[str, ...], ...] = ()
    """Attributes of each box. Empty: no attributes."""


Label = Answers | Choices | Boxes | None


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its images and its label."""

    example_id: str
    """Official id (question_id, identifier, ...), unique in its dataset and split."""

    text: str
    """Question, statement, caption or phrase; empty for plain detection."""

    image_ids: tuple[str, ...]
    """One image id, or two for NLVR2 (left, right), derived by the dataset's id rule."""

    label: Label = None
    """None if not published (test splits), or if the dataset has no labels (captions)."""

    about: Mapping[str, str] = field(default_factory=dict)
    """Further fields, such as ``question_type``, ``answer_type`` and ``synset``, for per-group
    results and prediction files."""
