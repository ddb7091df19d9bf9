"""One example of a dataset: a text, its images, and what is known to be right for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answers:
    """What people (or the dataset's makers) gave as the answer or the class.

    One for each annotator of VQA, one alone for GQA, ``True`` or ``False`` for NLVR2,
    ``entailment`` and so on for SNLI-VE: a label space makes a target of them.
    """

    answers: tuple[str, ...]
    """As they are in the file, not normalized; VQA's ten in their order."""

    scores: tuple[float, ...] = ()
    """Soft score of each where the file gives it (LXMERT's); empty: each is one vote."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Texts of which one is right, as in VCR."""

    texts: tuple[str, ...]
    correct: int = -1
    """Index of the right one; -1: not published for this split."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes on the (first) image, and what each of them is.

    Detection has names; grounding (RefCOCO, Flickr30k Entities) has spans: the part of the
    example's text that a box belongs to.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    """x1, y1, x2, y2 in pixels of the original image."""

    names: tuple[str, ...] = ()
    """Class of each box, or kind of its phrase; empty: there are none."""

    spans: tuple[tuple[int, int], ...] = ()
    """Start and end of each box's phrase in the text, in characters; a phrase of several boxes
    is repeated. Empty: there are no phrases."""

    attributes: tuple[tuple[str, ...], ...] = ()
    """Attributes of each box; empty: there are none."""


Label = Answers | Choices | Boxes | None


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its images and label, as a dataset's file has it."""

    example_id: str
    """Unique in its dataset and split: the official id (question_id, identifier, ...)."""

    text: str
    """Question, statement, caption or phrase; empty for plain detection."""

    image_ids: tuple[str, ...]
    """One, or two for NLVR2 (left, right); by the dataset's id rule."""

    label: Label = None
    """None where it is not published (test splits)."""

    about: Mapping[str, str] = field(default_factory=dict)
    """What results are broken down by and files are made of: ``question_type``, ``answer_type``,
    ``synset`` and the like."""
