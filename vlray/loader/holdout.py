"""Holdout split of a training set, independent of the random seed."""

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
    """Split the usable examples into a training part and a held-out part.

    Groups of examples are never divided. They are held out in the order of a hash of their names,
    until the held-out share is as close to ``share`` as possible. Each part has at least one group.

    Args:
        dataset: The examples.
        share: Share of the examples to hold out, between 0 and 1.
        by: Grouping. ``image``: examples with the same first image form a group. ``example``: each
            example is a group.

    Returns:
        The training part and the held-out part.

    Raises:
        ValueError: There are fewer than two groups, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} cannot be held out; pass a share between 0 and 1")
    encoded = _names(dataset, by).combine_chunks().dictionary_encode()
    names, groups = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    if len(names) < 2:
        raise ValueError(
            f"{dataset.corpus.spec} has examples of a single {by}, so a share of them cannot be "
            "held out; pass a split to evaluate on (validation.valid)"
        )
    # A hash gives a pseudo-random order that is the same on every machine and in every run.
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=digests.__getitem__))
    sizes = np.cumsum(np.bincount(groups)[order])
    # The last group is excluded, so that at least one remains for training.
    count = int(np.abs(sizes[:-1] - share * len(dataset)).argmin()) + 1
    held_out = np.isin(groups, order[:count])
    return dataset.subset(np.flatnonzero(~held_out)), dataset.subset(np.flatnonzero(held_out))


def _names(dataset: RegionDataset, by: HoldoutGroup) -> pa.ChunkedArray:
    """Return the group name of each usable example."""
    names = []
    for part, table in zip(dataset.join.parts, dataset.corpus.tables, strict=True):
        if by == "image":
            part_names = pc.list_element(table.column("image_ids"), 0)
        else:
            # Different tables may use the same example ids.
            part_names = pc.binary_join_element_wise(table.name, table.column("example_id"), "/")
        names.append(
            part_names if part.examples is None else part_names.take(pa.array(part.examples))
        )
    return pa.chunked_array(
        [chunk for part_names in names for chunk in part_names.chunks], pa.string()
    )
