"""Upper bound on phrase grounding: the share of phrases that any region can ground."""

from __future__ import annotations

import numpy as np

from vlray.loader.dataset import RegionDataset
from vlray.loader.phrases import hits_of, spans_of


def count_reachable(dataset: RegionDataset, most: int = 1000) -> tuple[int, int]:
    """Count the phrases, and those with at least one correct region: no model can ground more.

    Args:
        dataset: Dataset of grounded examples.
        most: Maximum number of examples to check, evenly spaced.

    Returns:
        The number of phrases, and the number of phrases with a correct region.
    """
    phrases = reachable = 0
    count = min(most, len(dataset))
    for index in (np.arange(count) * len(dataset) // max(count, 1)).tolist():
        (regions, _), indices, rows = dataset.join.locate(dataset.corpus, np.array([index]))
        store, (example,) = dataset.stores[regions], dataset.corpus.take(indices)
        count_of_image = int(store.num_boxes[rows[0, 0]])
        # As the loader cuts them: the model sees no region beyond num_boxes.
        num_boxes = min(dataset.collate.options.num_boxes or count_of_image, count_of_image)
        boxes = np.zeros((1, num_boxes, 4), np.float32)
        store.read_boxes(rows[:, 0], boxes)
        if spans := spans_of(example):
            phrases += len(spans)
            reachable += int(hits_of(example, spans, boxes[0]).any(axis=1).sum())
    return phrases, reachable
