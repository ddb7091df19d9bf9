"""Samples of a test: select examples and collect the model's answers and attention.

Shapes: N: examples; B: examples of a batch; I: images per example; R: regions per image,
in the attention of a batch including padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from vlray.config.training import Precision
from vlray.evaluation.sample_types import Candidate, Image, Phrase, Sample
from vlray.loader.dataset import RegionDataset
from vlray.loader.phrases import spans_of
from vlray.models.precision import autocast
from vlray.models.protocol import ModelOutputs, VisionLanguageModel
from vlray.regions.store import RegionStore
from vlray.tasks.example import Boxes, Choices, Example
from vlray.tasks.grounding import phrase_hits
from vlray.tasks.metrics import Metrics, score_one
from vlray.tasks.predictions import Predictions

RIGHT = 0.5
"""Minimum score at which an example counts as right."""

CANDIDATES = 5
"""Maximum number of answers listed per example."""

# Small, because transformers keeps the attention of all layers.
BATCH_SIZE = 16


def choose(
    dataset: RegionDataset, metrics: Metrics | None, count: int, seed: int
) -> Int64[np.ndarray, N]:
    """Choose examples, half of them right and half wrong if there are enough of each.

    Args:
        dataset: The usable examples.
        metrics: Scores of the examples; None: choose without regard to scores.
        count: Number of examples to choose.
        seed: Random seed.

    Returns:
        Indices of usable examples, ascending.
    """
    # Shuffled before the cut, so that right and wrong examples are random selections.
    order = np.random.default_rng(seed).permutation(_indices_with_phrases(dataset))
    if metrics is None or count >= len(order):
        return np.sort(order[:count])
    scores = _scores(dataset, metrics)[order]
    right, wrong = order[scores >= RIGHT], order[scores < RIGHT]
    # If one kind is scarce, the other fills the remaining places.
    num_right = min(len(right), max(count // 2, count - len(wrong)))
    return np.sort(np.concatenate([right[:num_right], wrong[: count - num_right]]))


def _indices_with_phrases(dataset: RegionDataset) -> Int64[np.ndarray, N]:
    """Return all indices; in grounding, only indices of texts with an annotated box."""
    table = dataset.corpus.tables[0]
    if table.spec.labels != "boxes":
        return np.arange(len(dataset))
    lengths = _usable(dataset, pc.list_value_length(table.column("boxes")))
    return np.flatnonzero(np.array(lengths.fill_null(0).to_pylist()))


def _scores(dataset: RegionDataset, metrics: Metrics) -> Float32[np.ndarray, N]:
    ids = _usable(dataset, dataset.corpus.tables[0].column("example_id")).to_pylist()
    return np.array([metrics.scores[example_id] for example_id in ids], np.float32)


def _usable(dataset: RegionDataset, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Select the rows of the examples that have regions."""
    chosen = dataset.join.parts[0].examples
    return column if chosen is None else column.take(pa.array(chosen))


def inspect(
    model: VisionLanguageModel,
    dataset: RegionDataset,
    indices: Int64[np.ndarray, N],
    predictions: Predictions,
    metrics: Metrics | None,
    *,
    device: torch.device,
    precision: Precision,
) -> list[Sample]:
    """Run the model again on some examples, to collect further answers and attention weights.

    Args:
        model: The model, in evaluation mode, on the device.
        dataset: The usable examples.
        indices: Indices of the examples.
        predictions: Predictions of all examples, keyed by example_id.
        metrics: Scores of all examples; None: unknown.
        device: Device of the model.
        precision: Precision of the model's arithmetic.
    """
    samples = []
    for start in range(0, len(indices), BATCH_SIZE):
        part = indices[start : start + BATCH_SIZE]
        (regions, _), positions, rows = dataset.join.locate(dataset.corpus, part)
        # Only pretraining batches depend on the generator.
        batch = dataset.batch(part, np.random.default_rng(0)).to(device)
        with torch.inference_mode(), autocast(precision, device):
            outputs = model(batch, attention=True)
        examples = dataset.corpus.take(positions)
        images = _images(dataset.stores[regions], regions, examples, rows, outputs)
        for row, example in enumerate(examples):
            score = metrics.scores.get(example.example_id) if metrics else None
            predicted = predictions.get(example.example_id)
            samples.append(
                Sample(
                    example,
                    score,
                    tuple(_candidates(dataset, example, outputs, row, scored=score is not None)),
                    images[row],
                    tuple(_phrases(example, predicted)),
                )
            )
    return samples


def _candidates(
    dataset: RegionDataset, example: Example, outputs: ModelOutputs, row: int, *, scored: bool
) -> Iterator[Candidate]:
    """Yield the most probable answers, with their softmax probabilities and scores."""
    if outputs.scores is None or outputs.scores.dim() != 2:
        return
    probabilities = torch.softmax(outputs.scores[row].float(), dim=0).cpu()
    best = torch.topk(probabilities, min(len(probabilities), CANDIDATES))
    for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        name, predicted = _answer(dataset, example, index)
        metric = dataset.corpus.tables[0].spec.metric
        value = score_one(metric, example, predicted) if scored else None
        yield Candidate(name, probability, value)


def _answer(dataset: RegionDataset, example: Example, index: int) -> tuple[str, str | int]:
    """Return the text of an answer, and the prediction as the metric expects it."""
    if isinstance(example.label, Choices):
        return example.label.texts[index], index
    space = dataset.corpus.label_space
    assert space is not None, "label scores require a model with a label space"
    return space.names[index], space.names[index]


def _phrases(example: Example, predicted: Any) -> Iterator[Phrase]:
    """Yield the phrases of a grounding example in the order of their spans."""
    label = example.label
    if not isinstance(label, Boxes):
        return
    spans = spans_of(example)
    whole, ranked = label, predicted or []
    if not label.spans:  # the whole text is one phrase, with a single predicted box
        # Every box then belongs to that one phrase.
        whole = Boxes(label.boxes, spans=spans * len(label.boxes))
        ranked = [[predicted]] if predicted else []
    hits = phrase_hits(whole, ranked)
    for index, span in enumerate(spans):
        boxes = ranked[index] if ranked else []
        right = [
            box
            for box, box_span in zip(whole.boxes, whole.spans, strict=True)
            if tuple(box_span) == span
        ]
        yield Phrase(span, boxes[0] if boxes else None, right, hits[span][0])


def _images(
    store: RegionStore,
    regions: str,
    examples: Sequence[Example],
    rows: Int64[np.ndarray, "B I"],
    outputs: ModelOutputs,
) -> list[tuple[Image, ...]]:
    attention = _by_image(outputs.attention)
    images = []
    for row, (example, image_rows) in enumerate(zip(examples, rows, strict=True)):
        count = len(image_rows)
        # NLVR2 calls its two images left and right.
        captions = ("left", "right") if count == 2 else ("",) * count
        images.append(
            tuple(
                image_of(
                    store,
                    regions,
                    image_id,
                    int(image_rows[index]),
                    None if attention is None else attention[row, index],
                    captions[index],
                )
                for index, image_id in enumerate(example.image_ids)
            )
        )
    return images


def _by_image(attention: Tensor | None) -> Float32[np.ndarray, "B I R"] | None:
    """Add an image axis to the attention of single-image models."""
    if attention is None:
        return None
    weights: np.ndarray = attention.float().cpu().numpy()
    return weights[:, None] if weights.ndim == 2 else weights


def image_of(
    store: RegionStore,
    regions: str,
    image_id: str,
    row: int,
    attention: Float32[np.ndarray, " R"] | None = None,
    caption: str = "",
) -> Image:
    """Read the regions of an image from the store.

    Args:
        store: Store of the output that holds the image.
        regions: Name of the output.
        image_id: Id of the image.
        row: Row of the image in the store.
        attention: Attention weights of the regions; None: unknown. Regions without a weight,
            which the model did not receive, are left out.
        caption: Tells several images apart; may be empty.
    """
    count = int(store.num_boxes[row])
    if attention is not None:
        # The model may receive fewer regions than the output has.
        count = min(count, len(attention))
    boxes = np.empty((1, count, 4), np.float32)
    rows = np.array([row])
    store.read_boxes(rows, boxes)
    ids = store.read_labels(rows, count).get("obj_ids")
    names = store.obj_names
    labels = () if ids is None else tuple(_name(int(label), names) for label in ids[0])
    height, width = (int(value) for value in store.image_hw[row])
    weights = None if attention is None else tuple(attention[:count].tolist())
    return Image(image_id, regions, (width, height), boxes[0], labels, weights, caption)


def _name(label: int, names: Sequence[str]) -> str:
    if label < 0:
        return ""
    return names[label] if label < len(names) else f"class {label}"
