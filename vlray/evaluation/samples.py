"""Examples to look at: which ones, and all that the model says of them.

Shapes: B examples, I images of an example, R regions padding included, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from vlray.config.training import Precision
from vlray.loader.dataset import RegionDataset
from vlray.loader.phrases import spans_of
from vlray.models.precision import autocast
from vlray.models.protocol import ModelOutputs, VisionLanguageModel
from vlray.regions.store import RegionStore
from vlray.tasks.example import Boxes, Choices, Example
from vlray.tasks.grounding import phrase_hits
from vlray.tasks.metrics import Metrics, score_one

RIGHT = 0.5
"""From this score on an example is among the right ones that are chosen."""

CANDIDATES = 5
AT_ONCE = 16


@dataclass(frozen=True)
class Candidate:
    """One of the model's answers."""

    name: str
    probability: float
    score: float | None
    """By the dataset's metric; None: not known."""


@dataclass(frozen=True)
class Phrase:
    """A phrase of the text, and where it is.

    Attributes:
        span: Start and end in the text, in characters.
        predicted: The model's first box, pixels; None: it has none.
        right: Boxes of the phrase.
        is_hit: Whether the first box is one of them; None: not known.
    """

    span: tuple[int, int]
    predicted: Sequence[float] | None
    right: Sequence[Sequence[float]]
    is_hit: bool | None


@dataclass(frozen=True, eq=False)
class Image:
    """An image, and what the model saw of it.

    Attributes:
        size: Width and height, pixels.
        boxes: Of the regions, pixels, in the model's order.
        labels: What the detector took them for; empty: it does not say.
        attention: How much was looked at each; None: not known.
        caption: Of several images, which one it is.
    """

    image_id: str
    regions: str
    size: tuple[int, int]
    boxes: Float32[np.ndarray, "R 4"]
    labels: tuple[str, ...] = ()
    attention: tuple[float, ...] | None = None
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Shown:
    """An example as the page shows it."""

    example: Example
    score: float | None
    candidates: tuple[Candidate, ...] = ()
    images: tuple[Image, ...] = ()
    phrases: tuple[Phrase, ...] = ()


def choose(
    dataset: RegionDataset, metrics: Metrics | None, count: int, seed: int
) -> Int64[np.ndarray, N]:
    """Choose examples: half of them right, half wrong; of what there is less, as many as there are.

    Args:
        dataset: The usable examples.
        metrics: Their scores; None: any examples are chosen.
        count: How many.
        seed: Of the choice.

    Returns:
        Indices of usable examples, in their order.
    """
    order = np.random.default_rng(seed).permutation(_with_something_to_find(dataset))
    if metrics is None or count >= len(order):
        return np.sort(order[:count])
    scores = _scores(dataset, metrics)[order]
    right, wrong = order[scores >= RIGHT], order[scores < RIGHT]
    num_right = min(len(right), max(count // 2, count - len(wrong)))
    return np.sort(np.concatenate([right[:num_right], wrong[: count - num_right]]))


def _with_something_to_find(dataset: RegionDataset) -> Int64[np.ndarray, N]:
    """Leave out the texts of a grounding dataset that have no phrase with a box."""
    table = dataset.corpus.tables[0]
    if table.spec.labels != "boxes":
        return np.arange(len(dataset))
    lengths = _usable(dataset, pc.list_value_length(table.column("boxes")))
    return np.flatnonzero(np.array(lengths.fill_null(0).to_pylist()))


def _scores(dataset: RegionDataset, metrics: Metrics) -> Float32[np.ndarray, N]:
    ids = _usable(dataset, dataset.corpus.tables[0].column("example_id")).to_pylist()
    return np.array([metrics.scores[example_id] for example_id in ids], np.float32)


def _usable(dataset: RegionDataset, column: pa.ChunkedArray) -> pa.ChunkedArray:
    chosen = dataset.join.parts[0].examples
    return column if chosen is None else column.take(pa.array(chosen))


def look_at(
    model: VisionLanguageModel,
    dataset: RegionDataset,
    indices: Int64[np.ndarray, N],
    predictions: Mapping[str, Any],
    metrics: Metrics | None,
    *,
    device: torch.device,
    precision: Precision,
) -> list[Shown]:
    """Ask the model once more, for its next answers and for what it looks at.

    Args:
        model: In evaluation mode, on the device.
        dataset: The usable examples.
        indices: Which of them.
        predictions: What was predicted of all.
        metrics: Their scores; None: not known.
        device: Where batches go.
        precision: Of the model's arithmetic.
    """
    shown = []
    for start in range(0, len(indices), AT_ONCE):
        some = indices[start : start + AT_ONCE]
        (regions, _), places, rows = dataset.join.locate(dataset.corpus, some)
        batch = dataset.batch(some, np.random.default_rng(0)).to(device)
        with torch.inference_mode(), autocast(precision, device):
            outputs = model(batch, attention=True)
        examples = dataset.corpus.take(places)
        images = _images(dataset.stores[regions], regions, examples, rows, outputs)
        for row, example in enumerate(examples):
            found = metrics.scores.get(example.example_id) if metrics else None
            predicted = predictions.get(example.example_id)
            shown.append(
                Shown(
                    example,
                    found,
                    tuple(_candidates(dataset, example, outputs, row, scored=found is not None)),
                    images[row],
                    tuple(_phrases(example, predicted)),
                )
            )
    return shown


def _candidates(
    dataset: RegionDataset, example: Example, outputs: ModelOutputs, row: int, *, scored: bool
) -> Iterator[Candidate]:
    """Give the first answers, with their shares of the softmax; all of a few choices."""
    if outputs.scores is None or outputs.scores.dim() != 2:
        return
    shares = torch.softmax(outputs.scores[row].float(), dim=0).cpu()
    count = min(len(shares), CANDIDATES)
    best = torch.topk(shares, count)
    for share, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        name, predicted = _answer(dataset, example, place)
        metric = dataset.corpus.tables[0].spec.metric
        value = score_one(metric, example, predicted) if scored else None
        yield Candidate(name, share, value)


def _answer(dataset: RegionDataset, example: Example, place: int) -> tuple[str, Any]:
    """Give the name of an answer, and what the metric calls it."""
    if isinstance(example.label, Choices):
        return example.label.texts[place], place
    space = dataset.corpus.label_space
    assert space is not None, "scores of labels come from a model with a label space"
    return space.names[place], space.names[place]


def _phrases(example: Example, predicted: Any) -> Iterator[Phrase]:
    label = example.label
    if not isinstance(label, Boxes):
        return
    spans = spans_of(example)
    whole, ranked = label, predicted or []
    if not label.spans:  # the text is the one phrase, and one box is predicted
        whole = Boxes(label.boxes, spans=spans * len(label.boxes))
        ranked = [[predicted]] if predicted else []
    hits = phrase_hits(whole, ranked)
    for place, span in enumerate(spans):
        boxes = ranked[place] if ranked else []
        right = [
            box for box, own in zip(whole.boxes, whole.spans, strict=True) if tuple(own) == span
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
    found = []
    for row, (example, own) in enumerate(zip(examples, rows, strict=True)):
        captions = ("left", "right") if len(own) == 2 else ("",) * len(own)
        images = [
            image_of(
                store,
                regions,
                image_id,
                int(own[place]),
                None if attention is None else attention[row, place],
                captions[place],
            )
            for place, image_id in enumerate(example.image_ids)
        ]
        found.append(tuple(images))
    return found


def _by_image(attention: Tensor | None) -> Float32[np.ndarray, "B I R"] | None:
    if attention is None:
        return None
    given: np.ndarray = attention.float().cpu().numpy()
    return given[:, None] if given.ndim == 2 else given


def image_of(
    store: RegionStore,
    regions: str,
    image_id: str,
    row: int,
    attention: Float32[np.ndarray, " R"] | None = None,
    caption: str = "",
) -> Image:
    """Read the regions of an image.

    Args:
        store: The output.
        regions: Its name.
        image_id: Of the image.
        row: Of the image in the store.
        attention: To the regions that the model saw; None: not known. Of an image with more
            regions than these, the others are left out.
        caption: Which image it is.
    """
    count = int(store.num_boxes[row])
    if attention is not None:
        count = min(count, len(attention))
    boxes = np.empty((1, count, 4), np.float32)
    rows = np.array([row])
    store.read_boxes(rows, boxes)
    ids = store.read_labels(rows, count).get("obj_ids")
    names = store.obj_names
    labels = () if ids is None else tuple(_name(int(label), names) for label in ids[0])
    height, width = (int(value) for value in store.image_hw[row])
    looked = None if attention is None else tuple(attention[:count].tolist())
    return Image(image_id, regions, (width, height), boxes[0], labels, looked, caption)


def _name(label: int, names: Sequence[str]) -> str:
    if label < 0:
        return ""
    return names[label] if label < len(names) else f"class {label}"
