"""Grounding: where phrases are in the tokens, and which regions are theirs.

Shapes: B examples, P phrases padding included, R regions padding included, K boxes of an example.
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


class Phrases(NamedTuple):
    """What `vlray.loader.inputs.PhraseTargets` holds, as arrays."""

    positions: Int64[np.ndarray, "B P"]
    mask: Int64[np.ndarray, "B P"]
    targets: Float32[np.ndarray, "B P R"]
    spans: tuple[tuple[Span, ...], ...]


def are_grounded(examples: Sequence[Example]) -> bool:
    """Say whether all examples have a text, and boxes that it speaks of."""
    return all(isinstance(example.label, Boxes) and example.text for example in examples)


def check_grounded(corpus: Corpus) -> None:
    """Refuse datasets whose boxes no text speaks of.

    Raises:
        ValueError: There are such.
    """
    without = [
        f"{table.name} ({table.spec.metric})"
        for table in corpus.tables
        if table.spec.metric not in GROUNDED
    ]
    if without:
        raise ValueError(
            f"no text speaks of the boxes of {', '.join(without)}; the objective phrases wants a "
            "grounding dataset, such as flickr30k-entities or refcoco"
        )


def spans_of(example: Example) -> tuple[Span, ...]:
    """List an example's phrases, each once; without spans the text is the one phrase (RefCOCO)."""
    label = example.label
    if not isinstance(label, Boxes) or not label.boxes:
        return ()
    return tuple(dict.fromkeys(label.spans)) or ((0, len(example.text)),)


def phrases_of(
    examples: Sequence[Example],
    tokens: Tokens,
    boxes: Float32[np.ndarray, "B R 4"],
    num_boxes: Int32[np.ndarray, B],
) -> Phrases:
    """Find every phrase's last token, and the regions that lie on its boxes.

    Args:
        examples: Grounded ones.
        tokens: Of their texts.
        boxes: Of the regions, in pixels of the original images.
        num_boxes: How many of them are real.

    Returns:
        A phrase that the longest text's end cut off is masked. The regions of a phrase are those
        with an IoU of 0.5 or more with any of its boxes, all to the same share; its targets are
        zero where there are none.

    Source:
        VisualBERT (arXiv:1908.03557), uclanlp/visualbert visualbert/dataloaders/flickr_dataset.py:
        the last word piece of a phrase's last word, and shares of the regions.
    """
    spans = tuple(map(spans_of, examples))
    # One at least: attention over nothing is not defined.
    most = max(1, *map(len, spans))
    positions = np.zeros((len(examples), most), np.int64)
    mask = np.zeros_like(positions)
    targets = np.zeros((*positions.shape, boxes.shape[1]), np.float32)
    for row, (example, own) in enumerate(zip(examples, spans, strict=True)):
        if not own:
            continue
        hits = hits_of(example, own, boxes[row, : num_boxes[row]])
        targets[row, : len(own), : hits.shape[1]] = hits / np.maximum(hits.sum(1), 1)[:, None]
        for place, span in enumerate(own):
            found = _last_token(tokens.encodings[row], span)
            if found is not None:
                positions[row, place], mask[row, place] = found, 1
    return Phrases(positions, mask, targets, spans)


def hits_of(
    example: Example, spans: tuple[Span, ...], regions: Float32[np.ndarray, "R 4"]
) -> Float32[np.ndarray, "P R"]:
    """Return 1 where a region is one of a phrase's, otherwise 0."""
    label = example.label
    assert isinstance(label, Boxes)
    owners = label.spans or spans * len(label.boxes)
    near = iou_of(np.array(label.boxes, np.float64), regions) >= IOU_THRESH
    return np.stack(
        [near[[owner == span for owner in owners]].any(axis=0) for span in spans]
    ).astype(np.float32)


def _last_token(encoding: Encoding, span: Span) -> int | None:
    """Find the last token of a phrase that is left of the text."""
    for place in range(span[1] - 1, span[0] - 1, -1):
        found = encoding.char_to_token(place)
        if found is not None:
            return int(found)
    return None
