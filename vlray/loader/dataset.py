"""Dataset of examples joined with the regions of their images."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from vlray.loader.boxes import check_store
from vlray.loader.join import Join, join
from vlray.loader.pretraining import Texts
from vlray.loader.sampler import Part, Step
from vlray.regions.provenance import warn_of_differences
from vlray.tasks.corpus import Corpus
from vlray.tasks.problems import OnBad

if TYPE_CHECKING:
    from vlray.loader.collate import Collate
    from vlray.loader.inputs import ModelInputs
    from vlray.regions.store import RegionStore

log = logging.getLogger("vlray.loader")


class Assembly:
    """Builds batches of a corpus from any store of regions."""

    def __init__(
        self, corpus: Corpus, collate: Collate, corpus_indices: Int64[np.ndarray, N] | None = None
    ) -> None:
        """Index the texts by image, if batches draw texts of other images.

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
            rows: Rows of their images in the store.
            store: Regions of the images.
            regions: Name of the store.
            rng: Random generator for masking and for texts of other images.
        """
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

    It is also a map-style dataset of torch, for a ``torch.utils.data.DataLoader`` with worker
    processes:

    >>> DataLoader(dataset, batch_size=None, sampler=loader.sampler)  # doctest: +SKIP
    >>> DataLoader(dataset, batch_size=32, collate_fn=dataset.collate_fn)  # doctest: +SKIP

    The first line yields the batches of `RegionLoader`; the second one those of torch's samplers.
    """

    def __init__(
        self,
        corpus: Corpus,
        stores: RegionStore | Mapping[str, RegionStore],
        collate: Collate,
        *,
        on_bad: OnBad = "skip",
        seed: int = 0,
        trained_on: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Find the regions of every example, once.

        Args:
            corpus: The examples.
            stores: The regions: one output, or several by the names that the parts of the corpus
                use. Parts with the same images share their regions.
            collate: Builds the batches.
            on_bad: ``skip``: leave out examples whose images have no regions. ``stop``: raise an
                error.
            seed: Random seed of batches that torch's own sampler selects.
            trained_on: For a trained model: the provenance of each output in its training, by name,
                from `vlray.regions.provenance.provenance_of`. A warning lists what differs now.

        Raises:
            ValueError: The regions of a part are missing, or have none of its images.
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
        """Return the batch of a single example, or of a step of a loader's sampler."""
        if isinstance(key, Step):
            return self.batch(key.indices, np.random.default_rng(key.key))
        if not -len(self) <= key < len(self):
            raise IndexError(f"there is no example {key}; the dataset has {len(self)}")
        return self.__getitems__([key % len(self)])

    def __getitems__(self, indices: list[int]) -> ModelInputs:
        """Return these examples as a batch.

        Random draws in it depend on the seed and the indices only.
        """
        return self.batch(np.array(indices), np.random.default_rng((self.seed, *indices)))

    @staticmethod
    def collate_fn(batch: Any) -> Any:
        """Return a batch unchanged; torch's DataLoader requires such a function."""
        return batch

    def batch(self, indices: Int64[np.ndarray, B], rng: np.random.Generator) -> ModelInputs:
        """Read a batch.

        Args:
            indices: Indices of usable examples with the same region output and number of images.
            rng: Random generator for masking and for texts of other images.
        """
        (regions, _), corpus_indices, rows = self.join.locate(self.corpus, indices)
        return self._assembly.batch(corpus_indices, rows, self.stores[regions], regions, rng)

    def subset(self, indices: Int64[np.ndarray, B]) -> RegionDataset:
        """Return a dataset of some of the usable examples, in their original order.

        Corpus and stores are shared. Texts of other images are drawn from the subset only.

        Args:
            indices: Indices of the examples, each once, in any order.
        """
        # A shallow copy shares the stores and the tables.
        subset = copy.copy(self)
        subset.join = self.join.subset(indices)
        corpus_indices = subset.join.corpus_indices(self.corpus)
        subset._assembly = Assembly(self.corpus, self.collate, corpus_indices)
        return subset

    def parts(self) -> list[Part]:
        """Return the parts of the corpus for a `Sampler`."""
        kinds = self.join.kinds
        return [
            Part(int(start), len(joined), part.weight, kinds.index(joined.kind))
            for start, joined, part in zip(
                self.join.starts, self.join.parts, self.corpus.spec.parts, strict=False
            )
        ]


def warn_of_shared_ids(joined: Join, corpus: Corpus) -> None:
    """Warn if an image id occurs in two image sets that read the same region output."""
    rows_by_set: dict[str, dict[str, np.ndarray]] = {}
    for part, table in zip(joined.parts, corpus.tables, strict=True):
        sets = rows_by_set.setdefault(part.regions, {})
        # Rows stand for image ids: equal ids have equal rows in an output.
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
