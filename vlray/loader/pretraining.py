"""What is hidden of examples in pretraining, and the texts of other images beside them.

Everything is drawn from the generator that is given: equal seeds give equal batches.

Shapes: B examples, T tokens, R regions padding included, D feature length, L labels, E texts,
K any number of them.
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
"""Label of what is not to be found again; torch's losses leave it out."""

MOST_DRAWS = 1000


class Texts:
    """All texts of a corpus by their images, to draw one of another image, or of the same."""

    def __init__(
        self,
        images: Int64[np.ndarray, E],
        take: Callable[[np.ndarray], list[Example]],
        places: Int64[np.ndarray, K] | None = None,
    ) -> None:
        """Keep what texts are found by.

        Args:
            images: Number of each text's image: equal numbers, equal images.
            take: Reads examples by their indices.
            places: Indices of the texts that may be drawn; None: all of them.

        Raises:
            ValueError: All texts are of one image, so that there is none of another.
        """
        drawable = np.arange(len(images)) if places is None else places
        own = images[drawable]
        if len(own) == 0 or (own == own[0]).all():
            raise ValueError(
                f"all texts ({len(own)}) are of one image, so none is of another; give a corpus "
                "of several images, or pretraining.sentences own"
            )
        self._images, self._take = images, take
        self._sorted = drawable[np.argsort(own, kind="stable")]
        self._values = images[self._sorted]

    @classmethod
    def of(cls, corpus: Corpus, places: Int64[np.ndarray, K] | None = None) -> Self:
        """Number the images of a corpus; those of one image set are the same in all its parts.

        Args:
            corpus: The examples.
            places: Indices of those whose texts may be drawn; None: all of them.
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
        return cls(codes.to_numpy().astype(np.int64), corpus.take, places)

    def read(self, places: Int64[np.ndarray, B]) -> list[str]:
        """Give the texts at some indices."""
        return [example.text for example in self._take(places)]

    def other(self, places: Int64[np.ndarray, B], rng: np.random.Generator) -> Int64[np.ndarray, B]:
        """Draw for each example a text of another image, every such text equally likely."""
        # Texts of an image are neighbours in the sorted order: what is drawn skips over them.
        first, count = self._group(places)
        drawn = rng.integers(len(self._sorted) - count)
        return self._sorted[drawn + np.where(drawn >= first, count, 0)]

    def same(self, places: Int64[np.ndarray, B], rng: np.random.Generator) -> Int64[np.ndarray, B]:
        """Draw for each example another text of its image; -1: the image has no other."""
        first, count = self._group(places)
        drawn = first + rng.integers(np.maximum(count - 1, 1))
        drawn += drawn >= self._order[places]
        drawn = np.minimum(drawn, len(self._sorted) - 1)
        return np.where(count > 1, self._sorted[drawn], -1)

    @cached_property
    def _order(self) -> Int64[np.ndarray, E]:
        """Where each drawable text is in the sorted order, which is stable."""
        order = np.empty_like(self._images)
        order[self._sorted] = np.arange(len(self._sorted))
        return order

    def _group(
        self, places: Int64[np.ndarray, B]
    ) -> tuple[Int64[np.ndarray, B], Int64[np.ndarray, B]]:
        images = self._images[places]
        first = np.searchsorted(self._values, images)
        return first, np.searchsorted(self._values, images, side="right") - first


def pair_texts(
    own: list[str],
    places: Int64[np.ndarray, B],
    texts: Texts,
    options: PretrainingSection,
    rng: np.random.Generator,
) -> tuple[list[str], list[str] | None, Bool[np.ndarray, B]]:
    """Put texts of other images in the place of some, or behind all.

    Args:
        own: The examples' texts.
        places: Their indices in the corpus.
        texts: The corpus's texts.
        options: ``sentences`` one or two, and how often they are unmatched.
        rng: What is drawn from.

    Returns:
        The texts; the second ones, if any; and whether the text (the second one) is of the image.
        With two, an image that has only one text gets a second one of another image.

    Source:
        One: airsplay/lxmert src/pretrain/lxmert_data.py. Two: VisualBERT (arXiv:1908.03557),
        uclanlp/visualbert visualbert/dataloaders/coco_dataset.py.
    """
    matched = rng.random(len(own)) >= options.unmatched
    drawn = texts.other(places, rng)
    if options.sentences == "one":
        others = iter(texts.read(drawn[~matched]))
        return (
            [text if yes else next(others) for text, yes in zip(own, matched, strict=True)],
            None,
            matched,
        )
    siblings = texts.same(places, rng)
    matched &= siblings >= 0
    return own, texts.read(np.where(matched, siblings, drawn)), matched


def mask_tokens(
    tokens: Tokens, tokenizer: Tokenizer, options: PretrainingSection, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "B T"], Int64[np.ndarray, "B T"]]:
    """Hide tokens of the texts.

    Returns:
        The tokens, and what was at the masked places (-100 elsewhere).

    Source:
        BERT (arXiv:1810.04805), as in airsplay/lxmert src/pretrain/lxmert_pretrain.py: the random
        token is any of the vocabulary, special ones included.
    """
    drawn = rng.random(tokens.input_ids.shape)
    random_ids = rng.integers(tokenizer.vocabulary_size, size=tokens.input_ids.shape)
    chosen = tokens.is_text & (drawn < options.token_rate)
    hidden, swapped = _shares(drawn, options.token_rate, options)
    ids = np.where(chosen & swapped, random_ids, tokens.input_ids)
    ids[chosen & hidden] = tokenizer.id_of(MASK)
    return ids, np.where(chosen, tokens.input_ids, IGNORED)


def mask_regions(
    feats: Float[np.ndarray, "B R D"],
    rows: Int64[np.ndarray, B],
    store: RegionStore,
    options: PretrainingSection,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "B R"]:
    """Hide regions, in place.

    Args:
        feats: Changed where regions are masked.
        rows: The images' rows in the store.
        store: Where regions of other images are taken from, every image equally likely.
        options: How many, and what becomes of them.
        rng: What is drawn from.

    Returns:
        1 for the regions that were masked.

    Source:
        airsplay/lxmert src/pretrain/lxmert_pretrain.py.
    """
    drawn = rng.random(feats.shape[:2])
    real = np.arange(feats.shape[1]) < store.num_boxes[rows][:, None]
    chosen = real & (drawn < options.region_rate)
    hidden, swapped = _shares(drawn, options.region_rate, options)
    feats[chosen & hidden] = 0
    places = np.nonzero(chosen & swapped)
    if len(places[0]):
        others = _other_rows(rows[places[0]], store, rng)
        regions = (rng.random(len(others)) * store.num_boxes[others]).astype(np.int64)
        feats[places] = store.read_feat_rows(others, regions)
    masked: np.ndarray = chosen.astype(np.float32)
    return masked


def draw_answers(
    targets: Float32[np.ndarray, "B L"], matched: Bool[np.ndarray, B], rng: np.random.Generator
) -> Int64[np.ndarray, B]:
    """Draw one answer of each example, in proportion to its soft score.

    Returns:
        The label; -100 without an answer, or with a text of another image.

    Source:
        airsplay/lxmert src/pretrain/lxmert_pretrain.py.
    """
    sums = np.cumsum(targets, axis=1, dtype=np.float64)
    drawn = rng.random(len(targets)) * sums[:, -1]
    labels = (sums > drawn[:, None]).argmax(axis=1)
    drawn_labels: np.ndarray = np.where(matched & (sums[:, -1] > 0), labels, IGNORED)
    return drawn_labels


def _shares(
    drawn: Float[np.ndarray, "B X"], rate: float, options: PretrainingSection
) -> tuple[Bool[np.ndarray, "B X"], Bool[np.ndarray, "B X"]]:
    """Divide what was drawn below the rate into hidden, swapped and kept, by the same numbers."""
    hidden = drawn < rate * options.hidden
    return hidden, ~hidden & (drawn < rate * (options.hidden + options.swapped))


def _other_rows(
    rows: Int64[np.ndarray, K], store: RegionStore, rng: np.random.Generator
) -> Int64[np.ndarray, K]:
    """Draw for each row another one that has regions.

    Raises:
        ValueError: No other image has regions.
    """
    others = rows.copy()
    for _ in range(MOST_DRAWS):
        again = (others == rows) | (store.num_boxes[others] == 0)
        if not again.any():
            return others
        others[again] = rng.integers(len(store), size=int(again.sum()))
    raise ValueError(
        f"among {len(store)} images no other one with regions was found to take a region from; "
        "give more images, or pretraining.swapped 0"
    )
