"""How many phrases of a grounding dataset its regions can ground at all."""

from __future__ import annotations

import numpy as np

from vlray.loader.dataset import RegionDataset
from vlray.loader.phrases import hits_of, spans_of


def count_reachable(dataset: RegionDataset, most: int = 1000) -> tuple[int, int]:
    """Count phrases, and those of them that a region lies on: no model can find more.

    Args:
        dataset: Of grounded examples.
        most: Examples that are looked at, evenly spread.
    """
    phrases = reachable = 0
    count = min(most, len(dataset))
    for index in (np.arange(count) * len(dataset) // max(count, 1)).tolist():
        (regions, _), places, rows = dataset.join.locate(dataset.corpus, np.array([index]))
        store, (example,) = dataset.stores[regions], dataset.corpus.take(places)
        given = int(store.num_boxes[rows[0, 0]])
        boxes = np.zeros((1, min(dataset.collate.options.num_boxes or given, given), 4), np.float32)
        store.read_boxes(rows[:, 0], boxes)
        if spans := spans_of(example):
            phrases += len(spans)
            reachable += int(hits_of(example, spans, boxes[0]).any(axis=1).sum())
    return phrases, reachable
