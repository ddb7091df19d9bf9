"""Read prediction files in the formats of the datasets' official evaluations."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlray.storage import files

Predictions = Mapping[str, Any]
"""Predictions keyed by example_id: a text, a box (grounding) or a ranking (retrieval)."""

# The official names: VQA, GQA and DocVQA, VQA-RAD, NLVR2; ``image`` is VizWiz's.
ID_KEYS = ("question_id", "questionId", "qid", "identifier", "example_id", "image")
VALUE_KEYS = ("answer", "prediction")


def read(path: str | Path) -> dict[str, object]:
    """Read a prediction file.

    Args:
        path: ``.csv`` with lines such as ``identifier,True`` (NLVR2), or JSON: VQA's
            ``[{"question_id", "answer"}]``, GQA's ``[{"questionId", "prediction"}]``, or a mapping
            from example_id to prediction.

    Raises:
        ValueError: The file has the wrong format or a duplicate id; the message says where.
        FileNotFoundError: The file does not exist.
    """
    try:
        data = files.read_bytes(*files.resolve(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"the file of predictions {path} does not exist") from None
    try:
        # Spreadsheets write a byte order mark, which this codec removes.
        text = data.decode("utf-8-sig")
        pairs = _pairs_of_csv(text) if str(path).endswith(".csv") else _pairs_of_json(text)
        # A null in the file means that the prediction is missing.
        return {key: value for key, value in _unique(pairs).items() if value is not None}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a file of predictions: {error}") from error


def _pairs_of_csv(text: str) -> Iterable[tuple[str, str]]:
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row:
            continue
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} values; pass identifier,prediction")
        yield row[0].strip(), row[1].strip()


def _pairs_of_json(text: str) -> Iterable[tuple[str, object]]:
    # A plain dict would silently keep the last of two values with the same id.
    value = json.loads(text, object_pairs_hook=_unique)
    if isinstance(value, dict):
        yield from value.items()
        return
    if not isinstance(value, list):
        raise ValueError(f"it contains a {type(value).__name__}; expected a list or a mapping")
    for number, entry in enumerate(value):
        # Anything but an object is refused below, as an entry without these keys.
        keys = entry if isinstance(entry, dict) else {}
        id_key = next((key for key in ID_KEYS if key in keys), None)
        value_key = next((key for key in VALUE_KEYS if key in keys), None)
        if id_key is None or value_key is None:
            raise ValueError(
                f"entry {number} is {str(entry)[:80]}; it needs one of {', '.join(ID_KEYS)} and "
                f"one of {', '.join(VALUE_KEYS)}"
            )
        yield str(keys[id_key]), keys[value_key]


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"{key!r} appears twice; remove one of them")
        # Answers are compared as text, so convert numbers.
        values[key] = str(value) if isinstance(value, int | float) else value
    return values
