"""Convert examples to rows of an Arrow table, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlray.tasks.example import Answers, Boxes, Choices, Example, Label

SCHEMA = pa.schema(
    {
        "example_id": pa.string(),
        "text": pa.string(),
        "image_ids": pa.list_(pa.string()),
        # Answers; null if the label has another type or is missing. Likewise Choices and Boxes.
        "answers": pa.list_(pa.string()),
        "answer_scores": pa.list_(pa.float32()),
        # Choices
        "choices": pa.list_(pa.string()),
        "correct": pa.int32(),
        # Boxes
        "boxes": pa.list_(pa.list_(pa.float32(), 4)),
        "box_names": pa.list_(pa.string()),
        "box_spans": pa.list_(pa.list_(pa.int32(), 2)),
        "box_attributes": pa.list_(pa.list_(pa.string())),
        "about": pa.map_(pa.string(), pa.string()),
    }
)
"""Missing values are null, so that columns without values can be skipped when reading."""


def to_batch(examples: Sequence[Example]) -> pa.RecordBatch:
    """Convert examples to a record batch.

    Raises:
        ValueError: A value has the wrong type; the message names the column and the batch's first
            example.
    """
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for example in examples:
        row = _row(example)
        for name, values in columns.items():
            values.append(row.get(name))
    arrays = []
    for field in SCHEMA:
        try:
            arrays.append(pa.array(columns[field.name], field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
            raise ValueError(
                # Arrow converts a whole column and does not report the row.
                f"{field.name} of an example from {examples[0].example_id!r} on is not of type "
                f"{field.type}: {error}"
            ) from error
    return pa.record_batch(arrays, schema=SCHEMA)


def _row(example: Example) -> dict[str, object]:
    row: dict[str, object] = {
        "example_id": example.example_id,
        "text": example.text,
        "image_ids": example.image_ids,
        # Arrow builds a map from pairs, and returns it as pairs.
        "about": list(example.about.items()) or None,
    }
    label = example.label
    if isinstance(label, Answers):
        row |= {"answers": label.answers, "answer_scores": label.scores or None}
    elif isinstance(label, Choices):
        row |= {"choices": label.texts, "correct": label.correct}
    elif isinstance(label, Boxes):
        row |= {
            "boxes": label.boxes,
            "box_names": label.names or None,
            "box_spans": label.spans or None,
            "box_attributes": label.attributes or None,
        }
    return row


def example_of(row: Mapping[str, Any]) -> Example:
    """Convert a row to an example; columns without values may be missing from the row."""
    return Example(
        row["example_id"],
        row["text"],
        tuple(row["image_ids"]),
        _label(row),
        dict(row.get("about") or ()),
    )


def _label(row: Mapping[str, Any]) -> Label:
    if (answers := row.get("answers")) is not None:
        return Answers(tuple(answers), tuple(row.get("answer_scores") or ()))
    if (choices := row.get("choices")) is not None:
        return Choices(tuple(choices), row["correct"])
    if (boxes := row.get("boxes")) is not None:
        return Boxes(
            tuple(map(tuple, boxes)),
            tuple(row.get("box_names") or ()),
            tuple(map(tuple, row.get("box_spans") or ())),
            tuple(map(tuple, row.get("box_attributes") or ())),
        )
    return None
