"""Examples joined with the regions of their images, by index."""

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
    """Makes batches of a corpus, wherever the regions come from."""

    def __init__(
        self, corpus: Corpus, collate: Collate, places: Int64[np.ndarray, N] | None = None
    ) -> None:
        """Sort the texts, where others than an example's own are drawn.

        Args:
            corpus: The examples.
            collate: Makes the batches.
            places: Indices in the corpus of the examples whose texts are drawn; None: all.
        """
        self.corpus, self.collate = corpus, collate
        self._texts = Texts.of(corpus, places) if collate.needs_texts else None

    def batch(
        self,
        places: Int64[np.ndarray, B],
        rows: Int64[np.ndarray, "B I"],
        store: RegionStore,
        regions: str,
        rng: np.random.Generator,
    ) -> ModelInputs:
        """Make a batch.

        Args:
            places: The examples, by their indices in the corpus.
            rows: Of their images, in the store.
            store: The regions.
            regions: Name of the store.
            rng: What masks and other sentences are drawn from.
        """
        owners, _ = self.corpus.locate(places)
        batch = self.collate(
            self.corpus.take(places),
            rows,
            store,
            self.corpus.label_space,
            rng,
            soft_scores=[self.corpus.tables[owner].spec.soft_score for owner in owners],
            texts=self._texts,
            places=places,
        )
        return replace(batch, regions=regions)


class RegionDataset:
    """The usable examples of a corpus, each with the regions of its images.

    Also a torch map-style dataset, for a ``torch.utils.data.DataLoader`` with worker processes:

    >>> DataLoader(dataset, batch_size=None, sampler=loader.sampler)  # doctest: +SKIP
    >>> DataLoader(dataset, batch_size=32, collate_fn=dataset.collate_fn)  # doctest: +SKIP

    The first gives `RegionLoader`'s own batches; the second torch's.
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
            stores: The regions: one output, or several by the names that the corpus's parts give.
                Images that several parts have share their regions.
            collate: Makes the batches.
            on_bad: Whether examples with an image that has no regions are left out, or stop.
            seed: Of what is drawn in the batches of a DataLoader of torch's own order.
            trained_on: Of a model that was trained before: by the name of each output what
                `vlray.regions.provenance.provenance_of` said of it then. A warning names what is
                different now.

        Raises:
            ValueError: A part's regions are not given, or have none of its images.
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
        for name, before in (trained_on or {}).items():
            if name in self.stores:
                warn_of_differences(before, self.stores[name])
        self._assembly = Assembly(corpus, collate)
        warn_of_shared_ids(self.join, corpus)

    @property
    def collate(self) -> Collate:
        """What makes the batches."""
        return self._assembly.collate

    def __len__(self) -> int:
        """Give the number of usable examples."""
        return len(self.join)

    def __getitem__(self, key: int | Step) -> ModelInputs:
        """Give the batch of one example, or of a step of a loader's sampler."""
        if isinstance(key, Step):
            return self.batch(key.indices, np.random.default_rng(key.key))
        if not -len(self) <= key < len(self):
            raise IndexError(f"there is no example {key}; there are {len(self)}")
        return self.__getitems__([key % len(self)])

    def __getitems__(self, indices: list[int]) -> ModelInputs:
        """Give these examples as a batch.

        What is drawn at random in it follows from the seed and the indices.
        """
        return self.batch(np.array(indices), np.random.default_rng((self.seed, *indices)))

    @staticmethod
    def collate_fn(batch: Any) -> Any:
        """Leave a batch as it is: what torch's DataLoader wants told."""
        return batch

    def batch(self, indices: Int64[np.ndarray, B], rng: np.random.Generator) -> ModelInputs:
        """Read a batch.

        Args:
            indices: Of usable examples, all of one region output and number of images.
            rng: What masks and other sentences are drawn from.
        """
        (regions, _), places, rows = self.join.locate(self.corpus, indices)
        return self._assembly.batch(places, rows, self.stores[regions], regions, rng)

    def subset(self, indices: Int64[np.ndarray, B]) -> RegionDataset:
        """Give some of the usable examples as a dataset of their own, in their order.

        Corpus and stores are shared; texts of other images are drawn among the subset's alone.

        Args:
            indices: Of the examples, each once; any order.
        """
        chosen = copy.copy(self)
        chosen.join = self.join.narrowed(indices)
        places = chosen.join.places(self.corpus)
        chosen._assembly = Assembly(self.corpus, self.collate, places)
        return chosen

    def parts(self) -> list[Part]:
        """Describe the parts to a `Sampler`."""
        kinds = self.join.kinds
        return [
            Part(int(start), len(joined), part.weight, kinds.index(joined.kind))
            for start, joined, part in zip(
                self.join.starts, self.join.parts, self.corpus.spec.parts, strict=False
            )
        ]


def warn_of_shared_ids(joined: Join, corpus: Corpus) -> None:
    """Warn where one id would mean an image of one set here and of another set there."""
    seen: dict[str, dict[str, np.ndarray]] = {}
    for part, table in zip(joined.parts, corpus.tables, strict=True):
        sets = seen.setdefault(part.regions, {})
        rows = np.unique(part.rows)
        images = table.spec.image_set
        sets[images] = np.union1d(sets[images], rows) if images in sets else rows
    for sets in seen.values():
        names = sorted(sets)
        for place, one in enumerate(names):
            for other in names[place + 1 :]:
                if shared := len(np.intersect1d(sets[one], sets[other])):
                    log.warning(
                        "%d image ids are in %s as well as in %s, and get the same regions; if "
                        "they are different images, extract each set into an output of its own "
                        "and name it in the corpus: dataset:split@NAME",
                        shared,
                        one,
                        other,
                    )
