"""Retrieval: images by text and texts by image, each text paired with each image.

Shapes: N texts, M images, K ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64

from vlray.config.training import Precision
from vlray.evaluation.samples import Candidate, Shown, image_of
from vlray.loader.dataset import RegionDataset
from vlray.loader.pairs import PairLoader
from vlray.models.precision import autocast
from vlray.models.protocol import VisionLanguageModel
from vlray.tasks.grounding import CUTOFFS
from vlray.tasks.metrics import Metrics

LISTED = 100
"""How many of the best are kept of each; more than the largest of ``CUTOFFS``."""

SHOWN = 3
"""Images that the page shows of each text."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """How well each text goes with each image.

    Attributes:
        example_ids: Of the texts.
        image_ids: Of the images.
        own: Number of each text's own image.
        scores: The higher, the better they go together.
    """

    example_ids: list[str]
    image_ids: list[str]
    own: Int64[np.ndarray, N]
    scores: Float32[np.ndarray, "N M"]

    @cached_property
    def first_images(self) -> Int64[np.ndarray, "N K"]:
        """Numbers of the first images of each text, best first."""
        return _ranked(self.scores)

    def predictions(self) -> dict[str, list[str]]:
        """Give the first images of each text, best first."""
        return {
            example_id: [self.image_ids[place] for place in places]
            for example_id, places in zip(self.example_ids, self.first_images.tolist(), strict=True)
        }

    def metrics(self) -> Metrics:
        """Measure recall both ways: is the own image (one of the own texts) among the first?"""
        image_hits = self.first_images == self.own[:, None]
        # Each image is asked for by one text at least: it is here because of it.
        text_hits = self.own[_ranked(self.scores.T)] == np.arange(len(self.image_ids))[:, None]
        samples: dict[tuple[str, ...], Sequence[float]] = {}
        for name, hits in (("text to image", image_hits), ("image to text", text_hits)):
            for k in CUTOFFS:
                samples[(f"{name} R@{k}",)] = hits[:, :k].any(axis=1).astype(float).tolist()
        values = {name: 100 * float(np.mean(found)) for (name,), found in samples.items()}
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
        model: In evaluation mode, on the device.
        loader: Gives the pairs.
        device: Where batches go.
        precision: Of the model's arithmetic.
        progress: Told the number of pairs after each batch.
    """
    scores = np.zeros((len(loader.example_ids), len(loader.image_ids)), np.float32)
    with torch.inference_mode():
        for batch in loader:
            with autocast(precision, device):
                outputs = model(batch.inputs.to(device))
            assert outputs.scores is not None, "a model of matching scores its pairs"
            scores[batch.texts, batch.images] = outputs.scores.float().cpu().numpy()
            progress(len(batch.texts))
    return Ranking(loader.example_ids, loader.image_ids, loader.own, scores)


def show(ranking: Ranking, dataset: RegionDataset, indices: Int64[np.ndarray, B]) -> list[Shown]:
    """Show some texts with the images that were found for them, and their own.

    Args:
        ranking: Of all texts.
        dataset: What was ranked.
        indices: Of the texts.
    """
    (regions, _), places, _ = dataset.join.locate(dataset.corpus, indices)
    store = dataset.stores[regions]
    rows = store.rows(ranking.image_ids)
    shown = []
    for index, example in zip(indices.tolist(), dataset.corpus.take(places), strict=True):
        own, scores = int(ranking.own[index]), ranking.scores[index]
        first = ranking.first_images[index, :SHOWN].tolist()
        captions = [
            f"{rank}, its own" if place == own else str(rank) for rank, place in enumerate(first, 1)
        ]
        if own not in first:
            first.append(own)
            captions.append(f"{1 + int((scores > scores[own]).sum()):,}, its own")
        images = tuple(
            image_of(store, regions, ranking.image_ids[place], int(rows[place]), None, caption)
            for place, caption in zip(first, captions, strict=True)
        )
        candidates = tuple(
            Candidate(ranking.image_ids[place], _sigmoid(scores[place]), float(place == own))
            for place in first
        )
        shown.append(Shown(example, float(first[0] == own), candidates, images))
    return shown


def _sigmoid(score: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(score, -60, 60))))


def of_images(dataset: RegionDataset, count: int) -> RegionDataset:
    """Narrow a dataset to the texts of some of its images, evenly spread over them."""
    rows = np.concatenate([part.rows[:, 0] for part in dataset.join.parts])
    images, first = np.unique(rows, return_index=True)
    if count >= len(images):
        return dataset
    images = images[np.argsort(first)]
    chosen = images[np.arange(count) * len(images) // count]
    return dataset.subset(np.flatnonzero(np.isin(rows, chosen)))


def _ranked(scores: Float32[np.ndarray, "N M"]) -> Int64[np.ndarray, "N K"]:
    """Give the places of the best scores of each row, best first, those of equal ones in order."""
    order: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :LISTED]
    return order
