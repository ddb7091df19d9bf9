"""Phrase grounding: the token that represents each phrase, and the regions that match the phrase.

Shapes: B: examples; P: phrases per example, including padding; R: regions per image, including
padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64
from tokenizers import Encoding

from vlray.loader.text import Tokens
from vlray.regions.overlap import iou_of
from vlray.tasks.corpus import Corpus
from vlray.tasks.example import Boxes, Example
from vlray.tasks.grounding import IOU_THRESH
from vlray.tasks.spec import Metric

Span = tuple[int, int]

GROUNDED: tuple[Metric, ...] = ("phrase recall", "box accuracy at IoU 0.5")
"""Metrics of datasets whose texts refer to boxes."""


class Phrases(NamedTuple):
    """NumPy arrays with the content of `vlray.loader.inputs.PhraseTargets`."""

    positions: Int64[np.ndarray, "B P"]
    mask: Int64[np.ndarray, "B P"]
    targets: Float32[np.ndarray, "B P R"]
    spans: tuple[tuple[Span, ...], ...]


def are_grounded(examples: Sequence[Example]) -> bool:
    """Return whether all examples have a text that refers to boxes."""
    return all(isinstance(example.label, Boxes) and example.text for example in examples)


def check_grounded(corpus: Corpus) -> None:
    """Raise an error if a corpus has datasets without phrase grounding.

    Raises:
        ValueError: The texts of a dataset do not refer to boxes.
    """
    ungrounded = [
        f"{table.name} ({table.spec.metric})"
        for table in corpus.tables
        if table.spec.metric not in GROUNDED
    ]
    if ungrounded:
        raise ValueError(
            f"the texts of {', '.join(ungrounded)} do not refer to boxes; the objective phrases "
            "needs a grounding dataset, such as flickr30k-entities or refcoco"
        )


def spans_of(example: Example) -> tuple[Span, ...]:
    """Return the distinct phrases of an example, as character spans of the text.

    If the label has boxes but no spans (RefCOCO), the whole text is the only phrase.
    """
    label = example.label
    if not isinstance(label, Boxes) or not label.boxes:
        return ()
    # A phrase with several boxes repeats its span.
    return tuple(dict.fromkeys(label.spans)) or ((0, len(example.text)),)


def phrases_of(
    examples: Sequence[Example],
    tokens: Tokens,
    boxes: Float32[np.ndarray, "B R 4"],
    num_boxes: Int32[np.ndarray, B],
) -> Phrases:
    """Find the last token of every phrase, and the regions that overlap the phrase's boxes.

    Args:
        examples: Grounded examples.
        tokens: Encoded texts of the examples.
        boxes: Region boxes ``(x1, y1, x2, y2)``, in pixels of the original images.
        num_boxes: Number of real regions in each image.

    Returns:
        The phrases. Phrases that were truncated away have mask 0. All regions with an IoU of at
        least 0.5 with any box of a phrase have equal targets, which sum to 1. Without such a
        region, the targets are 0.

    Source:
        VisualBERT (arXiv:1908.03557), uclanlp/visualbert visualbert/dataloaders/flickr_dataset.py:
        the last word piece of a phrase represents the phrase, and the regions have equal targets.
    """
    spans = tuple(map(spans_of, examples))
    # At least one phrase, if only padding: a softmax over no elements is NaN.
    max_phrases = max(1, *map(len, spans))
    positions = np.zeros((len(examples), max_phrases), np.int64)
    mask = np.zeros_like(positions)
    targets = np.zeros((*positions.shape, boxes.shape[1]), np.float32)
    for row, (example, phrases) in enumerate(zip(examples, spans, strict=True)):
        if not phrases:
            continue
        hits = hits_of(example, phrases, boxes[row, : num_boxes[row]])
        # The maximum avoids 0 / 0 for a phrase without a matching region.
        targets[row, : len(phrases), : hits.shape[1]] = hits / np.maximum(hits.sum(1), 1)[:, None]
        for column, span in enumerate(phrases):
            position = _last_token(tokens.encodings[row], span)
            if position is not None:
                positions[row, column], mask[row, column] = position, 1
    return Phrases(positions, mask, targets, spans)


def hits_of(
    example: Example, spans: tuple[Span, ...], regions: Float32[np.ndarray, "R 4"]
) -> Float32[np.ndarray, "P R"]:
    """Return 1 for each region whose IoU with a box of the phrase is at least 0.5, 0 for others."""
    label = example.label
    assert isinstance(label, Boxes)
    # Without spans in the label, the only phrase is the whole text, and all boxes belong to it.
    box_spans = label.spans or spans * len(label.boxes)
    overlaps = iou_of(np.array(label.boxes, np.float64), regions) >= IOU_THRESH
    return np.stack(
        [overlaps[[box_span == span for box_span in box_spans]].any(axis=0) for span in spans]
    ).astype(np.float32)


def _last_token(encoding: Encoding, span: Span) -> int | None:
    """Return the index of the last remaining token of a phrase, or None if none remains."""
    # Spaces and characters that the tokenizer removes have no token, so earlier ones are tried.
    for character in range(span[1] - 1, span[0] - 1, -1):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return None
