"""Every text with every image, to rank images by text and texts by image (retrieval).

Shapes: B pairs, N texts, M images, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64

from vlray.loader.inputs import ModelInputs
from vlray.loader.loader import own_share

if TYPE_CHECKING:
    from vlray.loader.dataset import RegionDataset


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of a text and an image.

    Attributes:
        inputs: What the model gets. Its ``example_ids`` are the texts'.
        texts: Number of each pair's text, below ``len(PairLoader.example_ids)``.
        images: Number of its image, below ``len(PairLoader.image_ids)``.
    """

    inputs: ModelInputs
    texts: Int64[np.ndarray, B]
    images: Int64[np.ndarray, B]


class PairLoader:
    """Iterates over all pairs of a dataset's texts and its images.

    Texts are encoded once. Images come in blocks, of which each is read once and goes with all
    texts, the shortest first, before the next one is read.

    Attributes:
        example_ids: Of the texts: every usable example.
        image_ids: Of the images, each once.
        own: Number of each text's own image.
    """

    def __init__(
        self,
        dataset: RegionDataset,
        batch_size: int = 256,
        *,
        rank: int | None = None,
        world: int | None = None,
        block: int = 64,
    ) -> None:
        """Encode the texts.

        Args:
            dataset: Its examples have one image each, all in one region output.
            batch_size: Pairs of a batch.
            rank: Number of this worker, which gets its share of the images with all texts. Not
                given: as for `RegionLoader`.
            world: Number of workers.
            block: Images that are in memory together: 10 MB at 36 x 2048 float16 for 64.

        Raises:
            ValueError: Examples have several images, or their images are in several outputs.
        """
        kinds = dataset.join.kinds
        if len(kinds) != 1 or kinds[0][1] != 1:
            found = " and ".join(
                f"{images} images each, regions {name!r}" for name, images in kinds
            )
            raise ValueError(
                f"the examples of {dataset.corpus.spec} are of {found}; every text can be paired "
                "with every image where they have one image each, all in one region output"
            )
        if rank is None or world is None:
            rank, world = own_share()
        self.batch_size, self.block, self._collate = batch_size, block, dataset.collate
        self._regions = kinds[0][0]
        self._store = dataset.stores[self._regions]
        rows = np.concatenate([part.rows[:, 0] for part in dataset.join.parts])
        self._rows, self.own = np.unique(rows, return_inverse=True)
        self.image_ids: list[str] = self._store.image_ids.take(self._rows).to_pylist()
        examples = dataset.corpus.take(dataset.join.places(dataset.corpus))
        self.example_ids = [example.example_id for example in examples]
        tokens = self._collate.tokenizer([example.text for example in examples])
        self._tokens = self._collate.text_tensors(tokens)
        self._lengths = tokens.attention_mask.sum(axis=1)
        self._order = np.argsort(self._lengths, kind="stable")
        mine = np.arange(len(self._rows))[rank::world]
        self._blocks = [mine[start : start + block] for start in range(0, len(mine), block)]

    def __len__(self) -> int:
        """Give the number of this worker's batches."""
        return sum(
            -(-len(images) * len(self.example_ids) // self.batch_size) for images in self._blocks
        )

    def __iter__(self) -> Iterator[PairBatch]:
        """Give the batches of this worker's images."""
        for images in self._blocks:
            visual = self._collate.visual(self._rows[images, None].astype(np.int64), self._store)
            pairs = len(images) * len(self.example_ids)
            for start in range(0, pairs, self.batch_size):
                numbers = np.arange(start, min(start + self.batch_size, pairs))
                texts = self._order[numbers // len(images)]
                yield self._batch(texts, numbers % len(images), images, visual)

    def _batch(
        self,
        texts: Int64[np.ndarray, B],
        local: Int64[np.ndarray, B],
        images: Int64[np.ndarray, M],
        visual: dict[str, Any],
    ) -> PairBatch:
        longest = int(self._lengths[texts].max())
        if self._collate.options.fixed_tokens:
            longest = self._collate.options.max_tokens
        chosen, rows = torch.from_numpy(local), torch.from_numpy(texts)
        numbers = images[local]
        common: dict[str, Any] = {
            name: values[rows, :longest] for name, values in self._tokens.items()
        }
        common |= {
            name: None if values is None else values[chosen] for name, values in visual.items()
        }
        inputs = ModelInputs(
            example_ids=tuple(self.example_ids[number] for number in texts.tolist()),
            image_ids=tuple((self.image_ids[number],) for number in numbers.tolist()),
            regions=self._regions,
            **common,
        )
        return PairBatch(inputs, texts, numbers)
