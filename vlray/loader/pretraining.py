"""Masking of texts and regions for pretraining, and texts of other images.

All random draws use the generator that is passed in: equal seeds give equal batches.

Shapes: B examples, T tokens, R regions padding included, D feature length, L labels, E texts, K any
number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int64

from vlray.config.loader import PretrainingSection
from vlray.loader.text import MASK, Tokenizer, Tokens
from vlray.tasks.corpus import Corpus
from vlray.tasks.example import Example

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore

IGNORED = -100
"""Label of tokens and regions that are not predicted; torch's losses ignore it."""

MAX_DRAWS = 1000


class Texts:
    """All texts of a corpus by image, to draw texts of another or the same image."""

    def __init__(
        self,
        images: Int64[np.ndarray, E],
        take: Callable[[np.ndarray], list[Example]],
        indices: Int64[np.ndarray, K] | None = None,
    ) -> None:
        """Sort the texts by image.

        Args:
            images: Image number of each text; equal numbers mean the same image.
            take: Reads examples by their indices.
            indices: Indices of the texts that may be drawn; None: all of them.

        Raises:
            ValueError: All texts belong to one image, so that there is none of another image.
        """
        drawable = np.arange(len(images)) if indices is None else indices
        drawable_images = images[drawable]
        if len(drawable_images) == 0 or (drawable_images == drawable_images[0]).all():
            raise ValueError(
                f"all texts ({len(drawable_images)}) are of one image, so none can be drawn from "
                "another; give a corpus of several images, or set pretraining.sentences own"
            )
        self._images, self._take = images, take
        self._sorted = drawable[np.argsort(drawable_images, kind="stable")]
        self._values = images[self._sorted]

    @classmethod
    def of(cls, corpus: Corpus, indices: Int64[np.ndarray, K] | None = None) -> Self:
        """Index the texts of a corpus; parts with the same image set share its images.

        Args:
            corpus: The examples.
            indices: Indices of the examples whose texts may be drawn; None: all of them.
        """
        names = pa.chunked_array(
            [
                pc.binary_join_element_wise(table.spec.image_set, pc.list_element(chunk, 0), "/")
                for table in corpus.tables
                for chunk in table.column("image_ids").chunks
            ],
            pa.string(),
        )
        codes = names.combine_chunks().dictionary_encode().indices
        return cls(codes.to_numpy().astype(np.int64), corpus.take, indices)

    def read(self, indices: Int64[np.ndarray, B]) -> list[str]:
        """Return the texts at some indices."""
        return [example.text for example in self._take(indices)]

    def other(
        self, indices: Int64[np.ndarray, B], rng: np.random.Generator
    ) -> Int64[np.ndarray, B]:
        """Draw for each example a text of another image, all of them equally likely."""
        # The texts of an image are adjacent in the sorted order, so the draw skips them.
        first, count = self._group(indices)
        drawn = rng.integers(len(self._sorted) - count)
        return self._sorted[drawn + np.where(drawn >= first, count, 0)]

    def same(self, indices: Int64[np.ndarray, B], rng: np.random.Generator) -> Int64[np.ndarray, B]:
        """Draw for each example another text of its image; -1 if the image has no other."""
        first, count = self._group(indices)
        drawn = first + rng.integers(np.maximum(count - 1, 1))
        drawn += drawn >= self._order[indices]  # skip the example's own text
        drawn = np.minimum(drawn, len(self._sorted) - 1)
        return np.where(count > 1, self._sorted[drawn], -1)

    @cached_property
    def _order(self) -> Int64[np.ndarray, E]:
        """Position of each drawable text in the sorted order."""
        order = np.empty_like(self._images)
        order[self._sorted] = np.arange(len(self._sorted))
        return order

    def _group(
        self, indices: Int64[np.ndarray, B]
    ) -> tuple[Int64[np.ndarray, B], Int64[np.ndarray, B]]:
        """Return the first position and the number of the texts of each example's image."""
        images = self._images[indices]
        first = np.searchsorted(self._values, images)
        return first, np.searchsorted(self._values, images, side="right") - first


def pair_texts(
    first: list[str],
    indices: Int64[np.ndarray, B],
    texts: Texts,
    options: PretrainingSection,
    rng: np.random.Generator,
) -> tuple[list[str], list[str] | None, Bool[np.ndarray, B]]:
    """Replace some texts by texts of other images, or add a second text to each.

    Args:
        first: Texts of the examples.
        indices: Indices of the examples in the corpus.
        texts: Texts of the corpus.
        options: ``sentences`` one or two, and the rate of unmatched texts.
        rng: Random generator.

    Returns:
        The texts; the second texts, if any; and whether the text (or the second one) belongs to the
        image. With two texts, an image that has only one text always gets a second one of another
        image.

    Source:
        One: airsplay/lxmert src/pretrain/lxmert_data.py. Two: VisualBERT (arXiv:1908.03557),
        uclanlp/visualbert visualbert/dataloaders/coco_dataset.py.
    """
    matched = rng.random(len(first)) >= options.unmatched
    drawn = texts.other(indices, rng)
    if options.sentences == "one":
        others = iter(texts.read(drawn[~matched]))
        return (
            [
                text if is_matched else next(others)
                for text, is_matched in zip(first, matched, strict=True)
            ],
            None,
            matched,
        )
    siblings = texts.same(indices, rng)
    # An image with a single text cannot have a matching second one.
    matched &= siblings >= 0
    return first, texts.read(np.where(matched, siblings, drawn)), matched


def mask_tokens(
    tokens: Tokens, tokenizer: Tokenizer, options: PretrainingSection, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "B T"], Int64[np.ndarray, "B T"]]:
    """Mask tokens of the texts.

    Returns:
        The tokens after masking, and the original ids of masked tokens (-100 elsewhere).

    Source:
        BERT (arXiv:1810.04805), as in airsplay/lxmert src/pretrain/lxmert_pretrain.py: the random
        token is any of the vocabulary, special ones included.
    """
    drawn = rng.random(tokens.input_ids.shape)
    random_ids = rng.integers(tokenizer.vocabulary_size, size=tokens.input_ids.shape)
    selected = tokens.is_text & (drawn < options.token_rate)
    hidden, swapped = _shares(drawn, options.token_rate, options)
    ids = np.where(selected & swapped, random_ids, tokens.input_ids)
    ids[selected & hidden] = tokenizer.id_of(MASK)
    return ids, np.where(selected, tokens.input_ids, IGNORED)


def mask_regions(
    feats: Float[np.ndarray, "B R D"],
    rows: Int64[np.ndarray, B],
    store: RegionStore,
    options: PretrainingSection,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "B R"]:
    """Mask regions in place.

    Args:
        feats: Features, overwritten for masked regions.
        rows: Rows of the images in the store.
        store: Source of the regions of other images; every image is equally likely.
        options: Rates of masking.
        rng: Random generator.

    Returns:
        1 for masked regions, 0 for others.

    Source:
        airsplay/lxmert src/pretrain/lxmert_pretrain.py.
    """
    drawn = rng.random(feats.shape[:2])
    # Padding is never masked.
    real = np.arange(feats.shape[1]) < store.num_boxes[rows][:, None]
    selected = real & (drawn < options.region_rate)
    hidden, swapped = _shares(drawn, options.region_rate, options)
    feats[selected & hidden] = 0
    swapped_regions = np.nonzero(selected & swapped)
    if len(swapped_regions[0]):
        others = _other_rows(rows[swapped_regions[0]], store, rng)
        regions = (rng.random(len(others)) * store.num_boxes[others]).astype(np.int64)
        feats[swapped_regions] = store.read_feat_rows(others, regions)
    masked: np.ndarray = selected.astype(np.float32)
    return masked


def draw_answers(
    targets: Float32[np.ndarray, "B L"], matched: Bool[np.ndarray, B], rng: np.random.Generator
) -> Int64[np.ndarray, B]:
    """Draw one answer of each example, with a probability proportional to its soft score.

    Returns:
        The label; -100 without an answer, or with a text of another image.

    Source:
        airsplay/lxmert src/pretrain/lxmert_pretrain.py.
    """
    sums = np.cumsum(targets, axis=1, dtype=np.float64)
    drawn = rng.random(len(targets)) * sums[:, -1]
    # The first label whose cumulative score exceeds the draw.
    labels = (sums > drawn[:, None]).argmax(axis=1)
    drawn_labels: np.ndarray = np.where(matched & (sums[:, -1] > 0), labels, IGNORED)
    return drawn_labels


def _shares(
    drawn: Float[np.ndarray, "B X"], rate: float, options: PretrainingSection
) -> tuple[Bool[np.ndarray, "B X"], Bool[np.ndarray, "B X"]]:
    """Divide the masked items into hidden, swapped and unchanged ones.

    A single random number decides both whether an item is masked and what happens to it.
    """
    hidden = drawn < rate * options.hidden
    return hidden, ~hidden & (drawn < rate * (options.hidden + options.swapped))


def _other_rows(
    rows: Int64[np.ndarray, K], store: RegionStore, rng: np.random.Generator
) -> Int64[np.ndarray, K]:
    """Draw for each row another row that has regions.

    Raises:
        ValueError: No other image has regions.
    """
    others = rows.copy()
    for _ in range(MAX_DRAWS):
        redraw = (others == rows) | (store.num_boxes[others] == 0)
        if not redraw.any():
            return others
        # Rejection sampling: draw again for the row itself and for images without regions.
        others[redraw] = rng.integers(len(store), size=int(redraw.sum()))
    raise ValueError(
        f"no other image with regions was found among {len(store)} images to take a region from; "
        "give more images, or set pretraining.swapped 0"
    )
