"""Masking of texts and regions for pretraining, and random draws of texts from other images.

All random draws use the generator that is passed in, so equal seeds produce equal batches.

Shapes: B: examples; T: tokens per text, including padding; R: regions per image, including padding;
D: features per region; L: labels; E: texts of the corpus; K: selected texts or rows; X: tokens or
regions.
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
from vlray.loader.text import Tokenizer, Tokens
from vlray.loader.word_pieces import MASK
from vlray.tasks.corpus import Corpus
from vlray.tasks.example import Example

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore

IGNORED = -100
"""Label of tokens and regions that are not predicted; torch's losses ignore it."""

MAX_DRAWS = 1000


class Texts:
    """Texts of a corpus, grouped by image to draw texts from another image or from the same one."""

    def __init__(
        self,
        images: Int64[np.ndarray, E],
        take: Callable[[np.ndarray], list[Example]],
        indices: Int64[np.ndarray, K] | None = None,
    ) -> None:
        """Sort the texts by image.

        Args:
            images: Image number of each text; equal numbers mean the same image.
            take: Function that reads the examples at some indices.
            indices: Indices of the texts that may be drawn; None: all.

        Raises:
            ValueError: All drawable texts belong to one image, or there are none.
        """
        drawable = np.arange(len(images)) if indices is None else indices
        drawable_images = images[drawable]
        if len(drawable_images) == 0 or (drawable_images == drawable_images[0]).all():
            raise ValueError(
                f"all texts ({len(drawable_images)}) are of one image, so none can be drawn from "
                "another; pass a corpus of several images, or set pretraining.sentences own"
            )
        self._images, self._take = images, take
        self._sorted = drawable[np.argsort(drawable_images, kind="stable")]
        self._values = images[self._sorted]

    @classmethod
    def of(cls, corpus: Corpus, indices: Int64[np.ndarray, K] | None = None) -> Self:
        """Index the texts of a corpus.

        Equal image ids mean the same image if the parts of the corpus have the same image set.

        Args:
            corpus: The examples.
            indices: Corpus indices of the examples whose texts may be drawn; None: all.
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
        """Draw a text of another image for each example; all such texts are equally likely."""
        # The texts of an image are adjacent in the sorted order, so draws beyond their start are
        # shifted by their number.
        first, count = self._group(indices)
        drawn = rng.integers(len(self._sorted) - count)
        return self._sorted[drawn + np.where(drawn >= first, count, 0)]

    def same(self, indices: Int64[np.ndarray, B], rng: np.random.Generator) -> Int64[np.ndarray, B]:
        """Draw another text of the same image for each example; -1 if there is no other text."""
        first, count = self._group(indices)
        drawn = first + rng.integers(np.maximum(count - 1, 1))
        drawn += drawn >= self._order[indices]  # skip the example's own text
        # Only images with a single text can exceed the last index; they get -1 below.
        drawn = np.minimum(drawn, len(self._sorted) - 1)
        return np.where(count > 1, self._sorted[drawn], -1)

    @cached_property
    def _order(self) -> Int64[np.ndarray, E]:
        """Position of each drawable text in the sorted order; undefined for other texts."""
        order = np.empty_like(self._images)
        order[self._sorted] = np.arange(len(self._sorted))
        return order

    def _group(
        self, indices: Int64[np.ndarray, B]
    ) -> tuple[Int64[np.ndarray, B], Int64[np.ndarray, B]]:
        """Return where the texts of each example's image start, and how many there are."""
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
    """Replace some texts with texts of other images, or add a second text to each.

    Args:
        first: Texts of the examples.
        indices: Corpus indices of the examples.
        texts: Texts of the corpus.
        options: Uses ``sentences`` (``one``: replace; ``two``: add) and ``unmatched``, the rate of
            texts from other images.
        rng: Random generator.

    Returns:
        The first texts; the second texts, or None; and whether the replaced or added text belongs
        to the image. If an image has only one text, its second text always comes from another
        image.

    Source:
        ``one``: airsplay/lxmert src/pretrain/lxmert_data.py. ``two``: VisualBERT
        (arXiv:1908.03557), uclanlp/visualbert visualbert/dataloaders/coco_dataset.py.
    """
    matched = rng.random(len(first)) >= options.unmatched
    drawn = texts.other(indices, rng)
    if options.sentences == "one":
        # One text for each unmatched example, in the same order.
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
    # If an image has a single text, there is no matching second text.
    matched &= siblings >= 0
    return first, texts.read(np.where(matched, siblings, drawn)), matched


def mask_tokens(
    tokens: Tokens, tokenizer: Tokenizer, options: PretrainingSection, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "B T"], Int64[np.ndarray, "B T"]]:
    """Mask tokens of the texts.

    Returns:
        The token ids after masking, and the original ids of the masked tokens (-100 elsewhere).

    Source:
        BERT (arXiv:1810.04805), as in airsplay/lxmert src/pretrain/lxmert_pretrain.py: random
        tokens are drawn from the whole vocabulary, including special tokens.
    """
    drawn = rng.random(tokens.input_ids.shape)
    # Drawn for all tokens: the number of draws must not depend on which are masked.
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
    """Mask the features of regions in place.

    A masked region is set to zero, replaced with a random region of another image, or left
    unchanged. All other images with regions are equally likely.

    Args:
        feats: Features; those of masked regions are overwritten.
        rows: Row of each image in the store.
        store: Regions, including those of other images.
        options: Masking rates.
        rng: Random generator.

    Returns:
        1 for masked regions, 0 for others.

    Source:
        airsplay/lxmert src/pretrain/lxmert_pretrain.py.
    """
    drawn = rng.random(feats.shape[:2])
    # Padding regions are never masked.
    real = np.arange(feats.shape[1]) < store.num_boxes[rows][:, None]
    selected = real & (drawn < options.region_rate)
    hidden, swapped = _shares(drawn, options.region_rate, options)
    feats[selected & hidden] = 0
    swapped_regions = np.nonzero(selected & swapped)
    if len(swapped_regions[0]):
        others = _other_rows(rows[swapped_regions[0]], store, rng)
        # A draw in [0, 1) is scaled, because the number of regions differs between images.
        regions = (rng.random(len(others)) * store.num_boxes[others]).astype(np.int64)
        feats[swapped_regions] = store.read_feat_rows(others, regions)
    masked: np.ndarray = selected.astype(np.float32)
    return masked


def draw_answers(
    targets: Float32[np.ndarray, "B L"], matched: Bool[np.ndarray, B], rng: np.random.Generator
) -> Int64[np.ndarray, B]:
    """Draw one answer for each example, with probabilities proportional to the soft scores.

    Returns:
        The label id; -100 for examples without an answer or with a text of another image.

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
    """Return which items are hidden if masked, and which are swapped; the others stay unchanged.

    A single random number per item decides both whether the item is masked and how.
    """
    hidden = drawn < rate * options.hidden
    return hidden, ~hidden & (drawn < rate * (options.hidden + options.swapped))


def _other_rows(
    rows: Int64[np.ndarray, K], store: RegionStore, rng: np.random.Generator
) -> Int64[np.ndarray, K]:
    """Replace each row with a randomly drawn row of another image that has regions.

    Raises:
        ValueError: No other image with regions was found.
    """
    others = rows.copy()
    for _ in range(MAX_DRAWS):
        redraw = (others == rows) | (store.num_boxes[others] == 0)
        if not redraw.any():
            return others
        # Rejection sampling: draw again if the image is the same or has no regions.
        others[redraw] = rng.integers(len(store), size=int(redraw.sum()))
    raise ValueError(
        "masked regions are replaced by regions of other images, but no other image with regions "
        f"was found among {len(store)} images; pass more images, or set pretraining.swapped 0"
    )
