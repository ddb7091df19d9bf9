"""Pairs of every text with every image, for retrieval in both directions.

Shapes: B: pairs in a batch; M: images in a block.
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
    """Batch of text-image pairs.

    Attributes:
        inputs: Inputs of the model; ``inputs.example_ids`` holds the ids of the texts.
        texts: Index of each pair's text in ``PairLoader.example_ids``.
        images: Index of each pair's image in ``PairLoader.image_ids``.
    """

    inputs: ModelInputs
    texts: Int64[np.ndarray, B]
    images: Int64[np.ndarray, B]


class PairLoader:
    """Iterates over all pairs of a dataset's texts and images.

    Each text is encoded once. Images are read once, in blocks. Each block is paired with all texts,
    from the shortest to the longest, before the next block is read.

    Attributes:
        batch_size: Pairs in a batch.
        block: Images in memory at a time.
        example_ids: Ids of the texts, one per usable example.
        image_ids: Ids of the images, without duplicates.
        own: For each text, the index of its own image in ``image_ids``.
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
            dataset: Examples with one image each, all in the same region output.
            batch_size: Pairs in a batch.
            rank: Index of this worker. Each worker pairs all texts with a share of the images.
                None: see `RegionLoader`.
            world: Number of workers. None: see `RegionLoader`.
            block: Images in memory at a time. 64 images with 36 x 2048 float16 features take about
                10 MB.

        Raises:
            ValueError: Examples have several images, or the images are in several region outputs.
        """
        kinds = dataset.join.kinds
        if len(kinds) != 1 or kinds[0][1] != 1:
            descriptions = " and ".join(
                f"{images} images each, regions {name!r}" for name, images in kinds
            )
            raise ValueError(
                f"the examples of {dataset.corpus.spec} have {descriptions}; pairing every text "
                "with every image needs one image each, all in one region output"
            )
        if rank is None or world is None:
            rank, world = own_share()
        self.batch_size, self.block, self._collate = batch_size, block, dataset.collate
        self._regions = kinds[0][0]
        self._store = dataset.stores[self._regions]
        rows = np.concatenate([part.rows[:, 0] for part in dataset.join.parts])
        # Several texts can share an image, which is then read only once.
        self._rows, self.own = np.unique(rows, return_inverse=True)
        self.image_ids: list[str] = self._store.image_ids.take(self._rows).to_pylist()
        examples = dataset.corpus.take(dataset.join.corpus_indices(dataset.corpus))
        self.example_ids = [example.example_id for example in examples]
        tokens = self._collate.tokenizer([example.text for example in examples])
        self._tokens = self._collate.text_tensors(tokens)
        self._lengths = tokens.attention_mask.sum(axis=1)
        # Sorting puts texts of similar length in the same batch, which reduces padding.
        self._order = np.argsort(self._lengths, kind="stable")
        share = np.arange(len(self._rows))[rank::world]
        self._blocks = [share[start : start + block] for start in range(0, len(share), block)]

    def __len__(self) -> int:
        """Return the number of batches for this worker."""
        return sum(
            # Negated twice, the division rounds up: the last batch of a block may be smaller.
            -(-len(images) * len(self.example_ids) // self.batch_size)
            for images in self._blocks
        )

    def __iter__(self) -> Iterator[PairBatch]:
        """Iterate over the batches with this worker's images."""
        for images in self._blocks:
            visual = self._collate.visual(self._rows[images, None].astype(np.int64), self._store)
            pairs = len(images) * len(self.example_ids)
            for start in range(0, pairs, self.batch_size):
                numbers = np.arange(start, min(start + self.batch_size, pairs))
                # A text is paired with all images of the block before the next text.
                texts = self._order[numbers // len(images)]
                yield self._batch(texts, numbers % len(images), images, visual)

    def _batch(
        self,
        texts: Int64[np.ndarray, B],
        local: Int64[np.ndarray, B],
        images: Int64[np.ndarray, M],
        visual: dict[str, Any],
    ) -> PairBatch:
        """Build a batch from the encoded texts and the regions in memory.

        Args:
            texts: Index of each pair's text.
            local: Index of each pair's image within the block.
            images: Indices of the block's images in ``image_ids``.
            visual: Region tensors of the block.
        """
        # Trim the padding to the longest text in this batch.
        longest = int(self._lengths[texts].max())
        # With fixed_tokens, all batches must have the same shape.
        if self._collate.options.fixed_tokens:
            longest = self._collate.options.max_tokens
        image_rows, text_rows = torch.from_numpy(local), torch.from_numpy(texts)
        numbers = images[local]
        tensors: dict[str, Any] = {
            name: values[text_rows, :longest] for name, values in self._tokens.items()
        }
        tensors |= {
            name: None if values is None else values[image_rows] for name, values in visual.items()
        }
        inputs = ModelInputs(
            example_ids=tuple(self.example_ids[number] for number in texts.tolist()),
            image_ids=tuple((self.image_ids[number],) for number in numbers.tolist()),
            regions=self._regions,
            **tensors,
        )
        return PairBatch(inputs, texts, numbers)
