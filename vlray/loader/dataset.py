"""Dataset of examples with the regions of their images.

Shapes: N: examples whose texts may be drawn; B: examples in a batch; I: images per example.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Int64

from vlray.loader.boxes import check_store
from vlray.loader.join import Join, join
from vlray.loader.pretraining import Texts
from vlray.loader.sampler import Part, Step
from vlray.regions.provenance import warn_of_differences
from vlray.regions.schema import Provenance
from vlray.tasks.corpus import Corpus
from vlray.tasks.problems import OnBad

if TYPE_CHECKING:
    from vlray.loader.collate import Collate
    from vlray.loader.inputs import ModelInputs
    from vlray.regions.store import RegionStore

log = logging.getLogger("vlray.loader")


class Assembly:
    """Builds batches of a corpus with regions from any store."""

    def __init__(
        self, corpus: Corpus, collate: Collate, corpus_indices: Int64[np.ndarray, N] | None = None
    ) -> None:
        """Index the texts by image if batches draw further texts from the corpus.

        Args:
            corpus: The examples.
            collate: Builds the batches.
            corpus_indices: Corpus indices of the examples whose texts may be drawn; None: all.
        """
        self.corpus, self.collate = corpus, collate
        self._texts = Texts.of(corpus, corpus_indices) if collate.needs_texts else None

    def batch(
        self,
        corpus_indices: Int64[np.ndarray, B],
        rows: Int64[np.ndarray, "B I"],
        store: RegionStore,
        regions: str,
        rng: np.random.Generator,
    ) -> ModelInputs:
        """Build a batch.

        Args:
            corpus_indices: Corpus indices of the examples.
            rows: Rows of the examples' images in the store.
            store: Regions of the images.
            regions: Name of the region output.
            rng: Random generator for masking and for drawing texts.
        """
        # Each example uses the soft-score rule of its own dataset.
        owners, _ = self.corpus.locate(corpus_indices)
        batch = self.collate(
            self.corpus.take(corpus_indices),
            rows,
            store,
            self.corpus.label_space,
            rng,
            soft_scores=[self.corpus.tables[owner].spec.soft_score for owner in owners],
            texts=self._texts,
            corpus_indices=corpus_indices,
        )
        return replace(batch, regions=regions)


class RegionDataset:
    """Usable examples of a corpus, each with the regions of its images.

    The class is also a map-style dataset for a ``torch.utils.data.DataLoader`` with worker
    processes:

    >>> DataLoader(dataset, batch_size=None, sampler=loader.sampler)  # doctest: +SKIP
    >>> DataLoader(dataset, batch_size=32, collate_fn=dataset.collate_fn)  # doctest: +SKIP

    The first DataLoader yields the batches of `RegionLoader`. The second uses torch's own sampler.
    """

    def __init__(
        self,
        corpus: Corpus,
        stores: RegionStore | Mapping[str, RegionStore],
        collate: Collate,
        *,
        on_bad: OnBad = "skip",
        seed: int = 0,
        trained_on: Mapping[str, Provenance] | None = None,
    ) -> None:
        """Look up the regions of all examples.

        Args:
            corpus: The examples.
            stores: One region output, or several keyed by the names in the corpus. Parts of the
                corpus can share an output.
            collate: Builds the batches.
            on_bad: ``skip``: leave out examples whose images have no regions. ``stop``: raise an
                error.
            seed: Random seed for batches that torch's own sampler selects.
            trained_on: Provenance of the region outputs that a model was trained on, keyed by name;
                see `vlray.regions.provenance.provenance_of`. Differences are logged as warnings.

        Raises:
            ValueError: A part names no region output or an unknown one, none of its examples has
                regions, or boxes are not in pixels of the original image.
            DataError: Images have no regions, and ``on_bad`` is stop.
        """
        self.corpus, self.seed = corpus, seed
        self.stores: dict[str, RegionStore] = (
            dict(stores) if isinstance(stores, Mapping) else {"": stores}
        )
        self.join = join(corpus, self.stores, on_bad)
        if collate.options.boxes != "none":
            for store in self.stores.values():
                check_store(store)
        for name, provenance in (trained_on or {}).items():
            if name in self.stores:
                warn_of_differences(provenance, self.stores[name])
        self._assembly = Assembly(corpus, collate)
        warn_of_shared_ids(self.join, corpus)

    @property
    def collate(self) -> Collate:
        """Builder of the batches."""
        return self._assembly.collate

    def __len__(self) -> int:
        """Return the number of usable examples."""
        return len(self.join)

    def __getitem__(self, key: int | Step) -> ModelInputs:
        """Return a batch with a single example, or the batch for a step of a loader's sampler."""
        if isinstance(key, Step):
            return self.batch(key.indices, np.random.default_rng(key.key))
        if not -len(self) <= key < len(self):
            raise IndexError(f"there is no example {key}; the dataset has {len(self)}")
        # Negative indices count from the end.
        return self.__getitems__([key % len(self)])

    def __getitems__(self, indices: list[int]) -> ModelInputs:
        """Return a batch with the examples at these indices.

        Random draws in the batch depend only on the seed and the indices.
        """
        return self.batch(np.array(indices), np.random.default_rng((self.seed, *indices)))

    @staticmethod
    def collate_fn(batch: ModelInputs) -> ModelInputs:
        """Return a batch unchanged; torch's DataLoader must not collate it again."""
        return batch

    def batch(self, indices: Int64[np.ndarray, B], rng: np.random.Generator) -> ModelInputs:
        """Read a batch.

        Args:
            indices: Indices of usable examples with the same region output and number of images.
            rng: Random generator for masking and for drawing texts.
        """
        (regions, _), corpus_indices, rows = self.join.locate(self.corpus, indices)
        return self._assembly.batch(corpus_indices, rows, self.stores[regions], regions, rng)

    def subset(self, indices: Int64[np.ndarray, B]) -> RegionDataset:
        """Return a dataset with some of the usable examples, in their original order.

        Both datasets share the corpus and the stores. Texts are drawn only from the subset.

        Args:
            indices: Distinct indices of usable examples, in any order.
        """
        # The shallow copy shares the stores and the tables.
        subset = copy.copy(self)
        subset.join = self.join.subset(indices)
        corpus_indices = subset.join.corpus_indices(self.corpus)
        subset._assembly = Assembly(self.corpus, self.collate, corpus_indices)
        return subset

    def text_lengths(self) -> Int64[np.ndarray, N]:
        """Return the number of characters in the text of each usable example."""
        lengths = []
        for part, table in zip(self.join.parts, self.corpus.tables, strict=True):
            characters = pc.utf8_length(table.column("text")).to_numpy().astype(np.int64)
            lengths.append(characters if part.examples is None else characters[part.examples])
        return np.concatenate(lengths)

    def parts(self) -> list[Part]:
        """Return the parts of the corpus, as input for a `Sampler`."""
        kinds = self.join.kinds
        # ``starts`` has one more element than the other sequences.
        return [
            Part(int(start), len(joined), part.weight, kinds.index(joined.kind))
            for start, joined, part in zip(
                self.join.starts, self.join.parts, self.corpus.spec.parts, strict=False
            )
        ]


def warn_of_shared_ids(joined: Join, corpus: Corpus) -> None:
    """Log a warning if an image id occurs in two image sets that use the same region output."""
    rows_by_set: dict[str, dict[str, np.ndarray]] = {}
    for part, table in zip(joined.parts, corpus.tables, strict=True):
        sets = rows_by_set.setdefault(part.regions, {})
        # Within an output, equal image ids have equal rows, so rows can be compared instead.
        rows = np.unique(part.rows)
        image_set = table.spec.image_set
        sets[image_set] = np.union1d(sets[image_set], rows) if image_set in sets else rows
    for sets in rows_by_set.values():
        names = sorted(sets)
        for position, first in enumerate(names):
            for second in names[position + 1 :]:
                if shared := len(np.intersect1d(sets[first], sets[second])):
                    log.warning(
                        "%d image ids are in both %s and %s, and get the same regions; if they "
                        "are different images, extract each image set into its own output and "
                        "name it in the corpus: dataset:split@NAME",
                        shared,
                        first,
                        second,
                    )
