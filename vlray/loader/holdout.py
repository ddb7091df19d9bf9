"""Keep some examples out of a training, to evaluate on: the same ones whatever the seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from vlray.config.training import HoldoutGroup
    from vlray.loader.dataset import RegionDataset


def split_holdout(
    dataset: RegionDataset, share: float, by: HoldoutGroup = "image"
) -> tuple[RegionDataset, RegionDataset]:
    """Divide the usable examples into those to train on and those to evaluate on.

    Whole groups are held out, by a hash of their names, until there are as close to the share of
    the examples as groups allow; one group at least stays on each side.

    Args:
        dataset: The examples.
        share: Of the examples that are held out, between 0 and 1.
        by: ``image``: examples that have their first image in common are one group. ``example``:
            each is its own.

    Returns:
        What to train on, and what was held out.

    Raises:
        ValueError: There is only one group, or the share is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} cannot be held out; give one between 0 and 1")
    encoded = _names(dataset, by).combine_chunks().dictionary_encode()
    names, groups = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    if len(names) < 2:
        raise ValueError(
            f"{dataset.corpus.spec} has examples of one {by} alone, so that a share of them cannot "
            "be held out; give a split to evaluate on (validation.valid)"
        )
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=digests.__getitem__))
    sizes = np.cumsum(np.bincount(groups)[order])
    count = int(np.abs(sizes[:-1] - share * len(dataset)).argmin()) + 1
    held = np.isin(groups, order[:count])
    return dataset.subset(np.flatnonzero(~held)), dataset.subset(np.flatnonzero(held))


def _names(dataset: RegionDataset, by: HoldoutGroup) -> pa.ChunkedArray:
    """Name the group of each usable example."""
    names = []
    for part, table in zip(dataset.join.parts, dataset.corpus.tables, strict=True):
        if by == "image":
            own = pc.list_element(table.column("image_ids"), 0)
        else:
            own = pc.binary_join_element_wise(table.name, table.column("example_id"), "/")
        names.append(own if part.examples is None else own.take(pa.array(part.examples)))
    return pa.chunked_array([chunk for own in names for chunk in own.chunks], pa.string())
