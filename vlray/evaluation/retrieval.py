"""Image retrieval by text and text retrieval by image, over all text-image pairs.

Shapes: N: texts; M: images; K: ranked images or texts; B: texts on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64

from vlray.config.training import Precision
from vlray.evaluation.sample_types import Candidate, Sample
from vlray.evaluation.samples import image_of
from vlray.loader.dataset import RegionDataset
from vlray.loader.pairs import PairLoader
from vlray.models.precision import autocast
from vlray.models.protocol import VisionLanguageModel
from vlray.tasks.grounding import CUTOFFS
from vlray.tasks.metrics import Metrics

MAX_RANKED = 100
"""Maximum length of a ranking; larger than all of ``CUTOFFS``."""

SAMPLE_IMAGES = 3
"""Number of best images shown for each text on the page."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Matching scores of all text-image pairs.

    Attributes:
        example_ids: Ids of the texts.
        image_ids: Ids of the images.
        own: Index of the image that belongs to each text.
        scores: Matching scores; higher is better.
    """

    example_ids: list[str]
    image_ids: list[str]
    own: Int64[np.ndarray, N]
    scores: Float32[np.ndarray, "N M"]

    @property
    def undefined(self) -> tuple[str, ...]:
        """Ids of the texts for which the model computed NaN."""
        rows = np.flatnonzero(np.isnan(self.scores).any(axis=1))
        return tuple(self.example_ids[row] for row in rows)

    @cached_property
    def first_images(self) -> Int64[np.ndarray, "N K"]:
        """Indices of the best images for each text, best first."""
        return _ranked(self.scores)

    def predictions(self) -> dict[str, list[str]]:
        """Return the ids of the best images for each text, best first, keyed by example_id."""
        return {
            example_id: [self.image_ids[index] for index in indices]
            for example_id, indices in zip(
                self.example_ids, self.first_images.tolist(), strict=True
            )
        }

    def metrics(self) -> Metrics:
        """Compute recall at ``CUTOFFS`` in both directions.

        A text is a hit if its image is among the k best; an image is a hit if any of its texts is.
        """
        image_hits = self.first_images == self.own[:, None]
        # Every image has at least one text, since the images come from the examples.
        text_hits = self.own[_ranked(self.scores.T)] == np.arange(len(self.image_ids))[:, None]
        samples: dict[tuple[str, ...], Sequence[float]] = {}
        for name, hits in (("text to image", image_hits), ("image to text", text_hits)):
            for k in CUTOFFS:
                samples[(f"{name} R@{k}",)] = hits[:, :k].any(axis=1).astype(float).tolist()
        values = {name: 100 * float(np.mean(hits)) for (name,), hits in samples.items()}
        # An example of the dataset is a text, so its score is the R@1 of that text.
        first = samples[("text to image R@1",)]
        scores = dict(zip(self.example_ids, first, strict=True))
        return Metrics(values, {}, scores, samples)


def rank(
    model: VisionLanguageModel,
    loader: PairLoader,
    *,
    device: torch.device,
    precision: Precision,
    progress: Callable[[int], object],
) -> Ranking:
    """Score every text with every image.

    Args:
        model: The model, in evaluation mode, on the device.
        loader: Yields the pairs.
        device: Device of the model.
        precision: Precision of the model's arithmetic.
        progress: Called after each batch with the number of pairs in it.
    """
    # float32: the 25,010 texts and 5,000 images of Karpathy's COCO test split take 500 MB.
    scores = np.zeros((len(loader.example_ids), len(loader.image_ids)), np.float32)
    with torch.inference_mode():
        for batch in loader:
            with autocast(precision, device):
                outputs = model(batch.inputs.to(device))
            assert outputs.scores is not None, "matching models return scores"
            # Pairs arrive in any order, each exactly once.
            scores[batch.texts, batch.images] = outputs.scores.float().cpu().numpy()
            progress(len(batch.texts))
    return Ranking(loader.example_ids, loader.image_ids, loader.own, scores)


def retrieval_samples(
    ranking: Ranking, dataset: RegionDataset, indices: Int64[np.ndarray, B]
) -> list[Sample]:
    """Collect some texts with their best-ranked images and the correct image.

    Args:
        ranking: Ranking of all texts.
        dataset: The ranked dataset.
        indices: Indices of the texts.
    """
    (regions, _), positions, _ = dataset.join.locate(dataset.corpus, indices)
    store = dataset.stores[regions]
    rows = store.rows(ranking.image_ids)
    samples = []
    for text, example in zip(indices.tolist(), dataset.corpus.take(positions), strict=True):
        right, scores = int(ranking.own[text]), ranking.scores[text]
        best = ranking.first_images[text, :SAMPLE_IMAGES].tolist()
        captions = [
            f"{rank}, right" if image == right else str(rank) for rank, image in enumerate(best, 1)
        ]
        if right not in best:
            best.append(right)
            # Rankings end at MAX_RANKED, so count the better images to get its rank.
            captions.append(f"{1 + int((scores > scores[right]).sum()):,}, right")
        images = tuple(
            image_of(store, regions, ranking.image_ids[image], int(rows[image]), None, caption)
            for image, caption in zip(best, captions, strict=True)
        )
        candidates = tuple(
            Candidate(ranking.image_ids[image], _sigmoid(scores[image]), float(image == right))
            for image in best
        )
        samples.append(Sample(example, float(best[0] == right), candidates, images))
    return samples


def _sigmoid(score: float) -> float:
    # np.exp overflows in float32 beyond 88.
    return float(1 / (1 + np.exp(-np.clip(score, -60, 60))))


def narrow_to_images(dataset: RegionDataset, count: int) -> RegionDataset:
    """Select the texts of ``count`` images, evenly spaced over the images of the dataset."""
    # Select by image: a limit on texts could drop some of an image's texts but keep others.
    rows = np.concatenate([part.rows[:, 0] for part in dataset.join.parts])
    images, first = np.unique(rows, return_index=True)
    if count >= len(images):
        return dataset
    images = images[np.argsort(first)]  # np.unique sorts: restore the order of the dataset
    chosen = images[np.arange(count) * len(images) // count]
    return dataset.subset(np.flatnonzero(np.isin(rows, chosen)))


def _ranked(scores: Float32[np.ndarray, "N M"]) -> Int64[np.ndarray, "N K"]:
    """Return the columns of the best scores in each row, best first; ties keep their order."""
    order: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :MAX_RANKED]
    return order
