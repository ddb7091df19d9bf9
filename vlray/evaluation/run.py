"""Run a test: open the inputs, predict, compute the metrics, and write the files."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from textwrap import shorten

import torch
from tqdm import tqdm

from vlray.cluster.gpus import usable_gpus
from vlray.config.test import TestConfig
from vlray.evaluation import submission
from vlray.evaluation.inputs import Test, open_test
from vlray.evaluation.page import render
from vlray.evaluation.predict import has_labels, predict, usable_examples
from vlray.evaluation.predicted import Predicted
from vlray.evaluation.report import MetricRow, as_json, check_defined, metric_rows
from vlray.evaluation.retrieval import Ranking, rank, retrieval_samples
from vlray.evaluation.sample_types import Sample
from vlray.evaluation.samples import choose, inspect
from vlray.loader.loader import RegionLoader
from vlray.loader.pairs import PairLoader
from vlray.models.precision import set_precision
from vlray.regions.provenance import provenance_of
from vlray.settings.json_value import JsonObject
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.tasks.example import Example
from vlray.tasks.metrics import SCORED, Metrics, score
from vlray.version import __version__

log = logging.getLogger("vlray.evaluation")

METRICS, PREDICTIONS, PAGE = "metrics.json", "predictions.json", "index.html"
MAX_ANSWER_LENGTH = 24
"""Maximum length of the baseline's answer in a column heading, in characters."""


@dataclass(frozen=True)
class TestResult:
    """Result of a test.

    Attributes:
        metrics: Metrics, overall and then by group; for a pretraining model, its losses.
        baseline: Column heading for ``MetricRow.baseline``, such as ``always "no"``; empty: no
            baseline.
        notes: Remarks on the metrics, one sentence each.
        written: Paths of the written files.
    """

    metrics: tuple[MetricRow, ...]
    baseline: str
    notes: tuple[str, ...]
    written: tuple[str, ...]


def test(config: TestConfig, output: str) -> TestResult:
    """Test a checkpoint on a split, and write the results.

    ``metrics.json`` holds:

    - ``schema`` (1), ``vlray_version``, ``command``, ``data``, ``seconds``;
    - ``checkpoint``: ``path``, ``model``, ``objective``, ``step``, ``epoch``, ``corpus``;
    - ``regions``: ``path`` and ``provenance`` of each output, keyed by name;
    - ``examples``: ``predicted``, ``left_out`` (no regions), ``unknown_answers``, ``limit``;
    - ``figures``: the metrics, keyed by name: ``value``, ``low`` and ``high`` (the 95 % interval),
      ``n``, ``baseline``: the value if the most frequent answer in the training data is always
      predicted, and ``left_out``: what the split lacks, if its annotation files are faulty;
    - ``by``: the same for groups of examples, keyed by kind and then name of the group.
      ``figures`` and ``by`` are empty if the labels are not published or vlray does not implement
      the metric;
    - ``baseline``: the ``answer`` of the baseline and the training ``corpus``; null: unknown;
    - ``losses``: the model's finite losses, keyed by name;
    - ``bootstrap``: ``resamples``, ``seed``;
    - ``notes``: remarks on the metrics.

    Args:
        config: Options of the command.
        output: Folder or URI for the files.

    Raises:
        ValueError: A required option is not set, the inputs do not fit together (see `open_test`),
            or the model computes NaN.
        OSError: A file cannot be read or written.
    """
    started = time.monotonic()
    fs, folder = files.resolve(output)
    tested = open_test(config)
    device = torch.device("cuda" if usable_gpus() else "cpu")
    set_precision(config.precision, device)
    tested.model.to(device)
    ranking: Ranking | None = None
    metrics: Metrics | None
    if tested.is_retrieval:
        ranking = _rank(tested, config, device)
        check_defined(ranking.undefined, config)
        predicted = Predicted(ranking.predictions(), num_examples=len(ranking.example_ids))
        metrics = ranking.metrics()
    else:
        predicted = _predict(tested, config, device)
        check_defined(predicted.undefined, config)
        metrics = _measure(tested, predicted, config)
    # Retrieval ranks images, so it has no most frequent answer as a baseline.
    always = tested.info.most_frequent if metrics is not None and ranking is None else ""
    rows = _metric_rows(tested, metrics, predicted, config, always)
    baseline = f'always "{shorten(always, MAX_ANSWER_LENGTH)}"' if always else ""
    notes = _notes(tested, predicted, metrics)
    if always:
        notes.append(f"{baseline}: the most frequent answer in {tested.info.corpus}")
    about = _about(tested, config, predicted, rows, notes, always) | {
        "seconds": round(time.monotonic() - started, 1)
    }
    # Build all files before writing any, so that an error leaves none behind.
    written = {METRICS: json.dumps(about, indent=1, allow_nan=False).encode()}
    if predicted.predictions:
        # indent=0 puts each prediction on its own line, for diff and grep.
        written[PREDICTIONS] = json.dumps(predicted.predictions, indent=0).encode()
        official = submission.encode(predicted.predictions, tested.table.spec.submission)
        written |= dict([official] if official else [])
    if config.examples_shown and predicted.predictions:
        samples = _samples(tested, predicted, ranking, metrics, config)
        written[PAGE] = _page(tested, samples, rows, notes, config, baseline)
    for name, content in written.items():
        files.write_atomic(fs, files.join(folder, name), content)
    return TestResult(
        tuple(rows), baseline, tuple(notes), tuple(files.join(output, name) for name in written)
    )


def _predict(tested: Test, config: TestConfig, device: torch.device) -> Predicted:
    # rank and world are explicit, because a test reads the whole split even inside a worker.
    loader = RegionLoader(tested.dataset, config.batch_size, shuffle=False, rank=0, world=1)
    total = len(tested.dataset)
    with tqdm(total=total, unit="example", desc="test", disable=None) as progress:
        return predict(
            tested.model,
            loader,
            tested.dataset,
            device=device,
            precision=config.precision,
            progress=progress.update,
        )


def _rank(tested: Test, config: TestConfig, device: torch.device) -> Ranking:
    """Score all text-image pairs of the split."""
    loader = PairLoader(tested.dataset, config.batch_size, rank=0, world=1)
    pairs = len(loader.example_ids) * len(loader.image_ids)
    with tqdm(total=pairs, unit="pair", unit_scale=True, desc="test", disable=None) as progress:
        return rank(
            tested.model,
            loader,
            device=device,
            precision=config.precision,
            progress=progress.update,
        )


def _samples(
    tested: Test,
    predicted: Predicted,
    ranking: Ranking | None,
    metrics: Metrics | None,
    config: TestConfig,
) -> list[Sample]:
    chosen = choose(tested.dataset, metrics, config.examples_shown, config.seed)
    if ranking is not None:
        return retrieval_samples(ranking, tested.dataset, chosen)
    return inspect(
        tested.model,
        tested.dataset,
        chosen,
        predicted.predictions,
        metrics,
        device=next(tested.model.parameters()).device,
        precision=config.precision,
    )


def _page(
    tested: Test,
    samples: list[Sample],
    rows: list[MetricRow],
    notes: list[str],
    config: TestConfig,
    baseline: str,
) -> bytes:
    content, problems = render(tested, samples, rows, notes, config.images_root, baseline)
    if problems:
        log.warning(
            "cannot read %s for the page, replaced by placeholders; the first: %s. "
            "Pass --images-root to set where the images are now",
            counted(len(problems), "image"),
            problems[0],
        )
    return content


def _measure(tested: Test, predicted: Predicted, config: TestConfig) -> Metrics | None:
    """Score the predictions; unless a limit is set, examples without regions count as wrong.

    Returns:
        The metrics; None if there are no predictions, the labels are not published, or vlray does
        not implement the dataset's metric.
    """
    metric = tested.table.spec.metric
    if not predicted.predictions or metric not in SCORED or not has_labels(tested.dataset):
        return None
    return score(metric, _examples(tested, config), predicted.predictions)


def _examples(tested: Test, config: TestConfig) -> Iterable[Example]:
    return tested.table if not config.limit else usable_examples(tested.dataset)


def _metric_rows(
    tested: Test, metrics: Metrics | None, predicted: Predicted, config: TestConfig, always: str
) -> list[MetricRow]:
    left_out = tested.table.problems.left_out
    if metrics is not None:
        baseline = None
        if always:
            metric = tested.table.spec.metric
            constant = dict.fromkeys(metrics.scores, always)
            baseline = score(metric, _examples(tested, config), constant)
        rows = metric_rows(metrics, config.resamples, config.seed, baseline)
        return [row if row.group else replace(row, left_out=left_out) for row in rows]
    if predicted.predictions:
        return []
    return [MetricRow(name, value, left_out=left_out) for name, value in predicted.means.items()]


def _notes(tested: Test, predicted: Predicted, metrics: Metrics | None) -> list[str]:
    notes = []
    count = len(tested.dataset)
    if metrics is None and predicted.predictions:
        why = (
            f"{tested.table.spec.metric} is computed by other tools"
            if has_labels(tested.dataset)
            else f"the labels of {tested.table.name} are not published"
        )
        notes.append(f"{why}: no metrics, only predictions, for {counted(count, 'example')}")
    notes += [f"left out: {line}" for line in tested.table.problems.lines()]
    if tested.num_left_out:
        effect = "counted as wrong" if metrics is not None else "not predicted"
        notes.append(f"no regions for {counted(tested.num_left_out, 'example')}: {effect}")
    if metrics is not None and tested.num_unknown:
        # Examples without regions count as wrong, so they lower the upper bound too.
        limit = 100 * (count - tested.num_unknown) / (count + tested.num_left_out)
        notes.append(
            f"upper bound on the score: {limit:.1f} %, since {tested.num_unknown:,} of "
            f"{counted(count, 'example')} have no right answer among the model's "
            f"{len(tested.info.goal.labels):,} labels"
        )
    return notes


def _about(
    tested: Test,
    config: TestConfig,
    predicted: Predicted,
    rows: list[MetricRow],
    notes: list[str],
    always: str,
) -> JsonObject:
    info = tested.info
    losses = {name: tally.mean for name, tally in predicted.losses.items() if tally.count}
    return {
        "schema": 1,
        "vlray_version": __version__,
        "command": shlex.join(["vlray", "test", *sys.argv[1:]]),
        "data": tested.table.name,
        "checkpoint": {
            "path": str(tested.folder),
            "model": info.model.name,
            "objective": info.goal.objective,
            "step": info.step,
            "epoch": info.epoch,
            "corpus": info.corpus,
        },
        "regions": {
            name: {"path": store.output, "provenance": provenance_of(store)}
            for name, store in tested.dataset.stores.items()
        },
        "examples": {
            "predicted": predicted.num_examples,
            "left_out": tested.num_left_out,
            "unknown_answers": tested.num_unknown,
            "limit": config.limit,
        },
        **as_json(rows),
        "baseline": {"answer": always, "corpus": info.corpus} if always else None,
        # JSON has no NaN.
        "losses": {name: value for name, value in losses.items() if math.isfinite(value)},
        "bootstrap": {"resamples": config.resamples, "seed": config.seed},
        "notes": notes,
    }
