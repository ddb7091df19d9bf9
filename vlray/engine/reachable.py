"""Upper bound on phrase grounding accuracy: phrases for which some region is correct."""

from __future__ import annotations

import numpy as np

from vlray.loader.dataset import RegionDataset
from vlray.loader.phrases import hits_of, spans_of


def count_reachable(dataset: RegionDataset, most: int = 1000) -> tuple[int, int]:
    """Count the phrases, and the phrases for which at least one region is correct.

    No model can ground the other phrases.

    Args:
        dataset: Dataset of grounded examples.
        most: Maximum number of examples to check; they are evenly spaced.

    Returns:
        The number of phrases, and the number of phrases with a correct region.
    """
    phrases = reachable = 0
    count = min(most, len(dataset))
    for index in (np.arange(count) * len(dataset) // max(count, 1)).tolist():
        (regions, _), indices, rows = dataset.join.locate(dataset.corpus, np.array([index]))
        store, (example,) = dataset.stores[regions], dataset.corpus.take(indices)
        count_of_image = int(store.num_boxes[rows[0, 0]])
        # Like the loader, use the first num_boxes regions only: the model sees no others.
        num_boxes = min(dataset.collate.options.num_boxes or count_of_image, count_of_image)
        boxes = np.zeros((1, num_boxes, 4), np.float32)
        store.read_boxes(rows[:, 0], boxes)
        if spans := spans_of(example):
            phrases += len(spans)
            reachable += int(hits_of(example, spans, boxes[0]).any(axis=1).sum())
    return phrases, reachable
