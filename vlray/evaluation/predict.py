"""Predict all examples of a dataset, and compute losses and metrics.

Shapes: B: examples of a batch; L: labels or choices; P: phrases per example, including padding;
R: regions per image, including padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from vlray.config.training import Precision
from vlray.evaluation.predicted import Predicted, Tally
from vlray.loader.dataset import RegionDataset
from vlray.loader.inputs import ModelInputs
from vlray.models.precision import autocast
from vlray.models.protocol import ModelOutputs, VisionLanguageModel
from vlray.tasks.example import Example
from vlray.tasks.grounding import CUTOFFS
from vlray.tasks.metrics import SCORED, Metrics, score


def predict(
    model: VisionLanguageModel,
    loader: Iterable[ModelInputs],
    dataset: RegionDataset,
    *,
    device: torch.device | str,
    precision: Precision,
    progress: Callable[[int], object] | None = None,
) -> Predicted:
    """Predict all examples of a loader.

    The model runs in evaluation mode; its previous mode is restored at the end, and so is torch's
    random state. Random numbers come from a fixed seed, so that every evaluation is repeatable.

    Args:
        model: The model on the device, without a DDP or FSDP wrapper: workers may have different
            numbers of batches, and a collective operation would then block.
        loader: Yields this worker's share of the dataset, each example once.
        dataset: The dataset that the loader reads, opened with the model's label space.
        device: Device of the model.
        precision: Precision of the model's arithmetic.
        progress: Called after each batch with the number of examples in it.
    """
    device = torch.device(device)
    module = cast(torch.nn.Module, model)
    was_training = module.training
    collected = _Collected(dataset)
    # fork_rng always saves the random state of the CPU, but a GPU's only if the GPU is listed.
    generators = [device] if device.type == "cuda" else []
    module.eval()
    try:
        with torch.random.fork_rng(devices=generators), torch.inference_mode():
            torch.manual_seed(0)
            for batch in loader:
                moved = batch.to(device, non_blocking=True)
                with autocast(precision, device):
                    outputs = model(moved)
                collected.add(moved, outputs)
                if progress is not None:
                    progress(len(batch))
    finally:
        module.train(was_training)
    return collected.result()


def measure(predicted: Predicted, dataset: RegionDataset) -> Metrics | None:
    """Score predictions by the dataset's own metric.

    Only examples that have regions count.

    Returns:
        The metrics; None if they cannot be computed: no predictions, unpublished labels, a metric
        that vlray does not implement, several datasets, or repeated example ids.
    """
    tables = dataset.corpus.tables
    if not predicted.predictions or len({table.spec.name for table in tables}) != 1:
        return None
    # Repeated example ids have overwritten each other's predictions.
    if len(predicted.predictions) != predicted.num_examples:
        return None
    metric = tables[0].spec.metric
    if metric not in SCORED or not has_labels(dataset):
        return None
    return score(metric, usable_examples(dataset), predicted.predictions)


def headline(metrics: Metrics | None, losses: Mapping[str, float]) -> tuple[str, float, bool]:
    """Return the metric by which checkpoints are compared.

    Args:
        metrics: Result of `measure`.
        losses: ``Predicted.means``.

    Returns:
        Name and value of the metric, and whether higher is better.
    """
    if metrics is not None:
        name, value = next(iter(metrics.values.items()))
        return name, value, True
    if "accuracy" in losses:
        return "accuracy", losses["accuracy"], True
    return "loss", losses.get("loss", math.nan), False


def usable_examples(dataset: RegionDataset) -> Iterable[Example]:
    """Yield the examples that have regions, in the order of the dataset."""
    for table, part in zip(dataset.corpus.tables, dataset.join.parts, strict=True):
        # None means that all examples of the table have regions.
        if part.examples is None:
            yield from table
        else:
            yield from (table[int(index)] for index in part.examples)


def has_labels(dataset: RegionDataset) -> bool:
    """Return whether any example has a published answer, choice or box."""
    for table in dataset.corpus.tables:
        for name in ("answers", "boxes"):
            if pc.any(pc.greater(pc.list_value_length(table.column(name)), 0)).as_py():
                return True
        # An unpublished choice has the index -1.
        if pc.any(pc.greater_equal(table.column("correct"), 0)).as_py():
            return True
    return False


class _Collected:
    """Accumulates predictions, losses and accuracy over batches."""

    def __init__(self, dataset: RegionDataset) -> None:
        self._dataset = dataset
        self._predictions: dict[str, object] = {}
        self._losses: dict[str, Tally] = {}
        self._accuracy = Tally()
        self._num_examples = 0
        self._undefined: list[str] = []

    def result(self) -> Predicted:
        undefined = tuple(self._undefined)
        return Predicted(
            self._predictions, self._losses, self._accuracy, self._num_examples, undefined
        )

    def add(self, batch: ModelInputs, outputs: ModelOutputs) -> None:
        self._num_examples += len(batch)
        for name, loss in outputs.losses.items():
            count = loss.count.item()
            # The mean of an empty batch may be NaN, and NaN times a zero count is still NaN.
            total = loss.mean.item() * count if count else 0.0
            self._losses[name] = self._losses.get(name, Tally()) + Tally(total, count)
        if outputs.scores is None:
            return
        scores = outputs.scores.float()
        # The best of NaN is the first label: a prediction that nobody made.
        is_nan = scores.isnan()
        if batch.phrases is not None:
            is_nan &= batch.phrases.mask[..., None].bool()  # padding has no valid scores
        rows = is_nan.reshape(len(batch), -1).any(1).nonzero()[:, 0].tolist()
        self._undefined += [batch.example_ids[row] for row in rows]
        # Scores have shape (B,) for matching, (B, L) for labels or choices, (B, P, R) for phrases.
        if scores.dim() == 1:
            self._add_matched(batch, scores)
        elif scores.dim() == 3:
            self._add_phrases(batch, scores)
        else:
            self._add_best(batch, scores)

    def _add_matched(self, batch: ModelInputs, scores: Float[Tensor, B]) -> None:
        matched = None if batch.pretraining is None else batch.pretraining.is_matched
        if matched is not None:
            # Scores of matches are logits: a positive score predicts a match.
            right = torch.eq(scores > 0, matched > 0)
            self._accuracy += Tally(right.sum().item(), len(batch))

    def _add_best(self, batch: ModelInputs, scores: Float[Tensor, "B L"]) -> None:
        best = scores.argmax(dim=1)
        indices: list[int] = best.tolist()
        answers: Sequence[object] = indices
        if batch.input_ids.dim() == 2:  # not multiple choice, where it is (B, L, T)
            space = self._dataset.corpus.label_space
            assert space is not None, "label scores require a label space"
            answers = [space.names[index] for index in indices]
        self._predictions |= zip(batch.example_ids, answers, strict=True)
        if batch.targets is not None and batch.input_ids.dim() == 2:
            # Targets are soft scores: a right answer may count less than 1.
            points = batch.targets.gather(1, best[:, None]).sum().item()
            self._accuracy += Tally(points, len(batch))
        elif batch.label_ids is not None:
            right = torch.eq(best, batch.label_ids).sum().item()
            # Unknown labels have a negative id; leave them out of the count.
            labelled = torch.ge(batch.label_ids, 0).sum().item()
            self._accuracy += Tally(right, labelled)

    def _add_phrases(self, batch: ModelInputs, scores: Float[Tensor, "B P R"]) -> None:
        phrases = batch.phrases
        assert phrases is not None, "region scores require batches with phrases"
        boxes, counts = self._boxes(batch, scores.shape[2])
        # A stable sort ranks regions with equal scores alike on every device.
        order = scores.argsort(dim=2, descending=True, stable=True).cpu().numpy()
        mask = phrases.mask.cpu().numpy()
        for row, example_id in enumerate(batch.example_ids):
            ranked: list[list[list[float]]] = []
            for phrase in range(len(phrases.spans[row])):
                # Padding regions have scores too: drop them.
                real = order[row, phrase][order[row, phrase] < counts[row]][: CUTOFFS[-1]]
                # A phrase beyond the maximum text length has no valid scores.
                ranked.append(boxes[row, real].tolist() if mask[row, phrase] else [])
            self._predictions[example_id] = ranked
            if self._takes_one_box:
                self._predictions[example_id] = ranked[0][0] if ranked and ranked[0] else None

    def _boxes(self, batch: ModelInputs, regions: int) -> tuple[np.ndarray, np.ndarray]:
        """Read each image's boxes, in pixels of the original image, and its number of regions."""
        store = self._dataset.stores[batch.regions]
        # Examples with phrases have one image.
        rows = np.array([self._rows[batch.regions, ids[0]] for ids in batch.image_ids], np.int64)
        boxes = np.empty((len(rows), regions, 4), np.float32)
        store.read_boxes(rows, boxes)
        return boxes, store.num_boxes[rows]

    @cached_property
    def _rows(self) -> dict[tuple[str, str], int]:
        """Row of each image in its store, keyed by output and image id; faster than the store."""
        rows: dict[tuple[str, str], int] = {}
        for table, part in zip(self._dataset.corpus.tables, self._dataset.join.parts, strict=True):
            images = pc.list_element(table.column("image_ids"), 0)
            chosen = images if part.examples is None else images.take(pa.array(part.examples))
            for image_id, row in zip(chosen.to_pylist(), part.rows[:, 0].tolist(), strict=True):
                rows[part.regions, image_id] = row
        return rows

    @property
    def _takes_one_box(self) -> bool:
        return self._dataset.corpus.tables[0].spec.metric == "box accuracy at IoU 0.5"
