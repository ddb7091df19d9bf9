"""Trials of ``-- extract``: collect proposals once per kind, and select from them in each trial.

A *kind* is a setting of only those options that change the proposals, such as the image size.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from vlray.config.extract import ExtractConfig
from vlray.config.train import TrainConfig
from vlray.detect.selection.reselect import LIGHT
from vlray.regions import parts
from vlray.storage import files
from vlray.tuning.candidates import Candidates
from vlray.tuning.collect import collect
from vlray.tuning.ledger import trial_id
from vlray.tuning.metrics import selection_metrics
from vlray.tuning.objective import DOWNSTREAM, RATE, Objective
from vlray.tuning.selected import Selection
from vlray.tuning.training import train_once
from vlray.tuning.truth import Truth
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Report

log = logging.getLogger("vlray.tuning")


@dataclass(frozen=True, eq=False)
class Downstream:
    """Trains on a trial's selected regions; the trial is measured by the training's metrics."""

    config: TrainConfig
    objective: Objective
    """Metric in the training's evaluations; an empty name means the first metric."""

    folder: Path
    """Parent folder for each trial's regions, model and metrics, which are deleted afterwards."""

    def __call__(
        self, candidates: Candidates, selection: Selection, extract: ExtractConfig, name: str
    ) -> dict[str, float]:
        """Write the regions, train on them, and return the metrics of the best evaluation."""
        folder = self.folder / name
        regions = folder / "regions"
        candidates.write(selection, extract, str(regions))
        data = self.config.data.model_copy(update={"cache_dir": str(self._cache(folder))})
        config = self.config.model_copy(
            update={"regions": (str(regions),), "output": str(folder / "model"), "data": data}
        )
        metrics = train_once(config, folder / "run", self.objective, None)
        # Regions and models of many trials would fill the disk; only the metrics are needed.
        shutil.rmtree(folder)
        first = next(iter(metrics.values()))
        return {DOWNSTREAM: first} | {f"{DOWNSTREAM}/{n}": value for n, value in metrics.items()}

    def _cache(self, folder: Path) -> Path:
        """Create a cache folder for the trial's regions that shares the cached examples."""
        # Examples are the same in all trials, so link to their cache; only regions differ.
        examples = self.config.data.cache_folder() / "examples"
        examples.mkdir(parents=True, exist_ok=True)
        cache = folder / "cache"
        cache.mkdir(exist_ok=True)
        if not (cache / "examples").exists():
            (cache / "examples").symlink_to(examples.absolute())
        return cache


@dataclass(frozen=True, eq=False)
class SelectionTrials:
    """Function that trials of ``-- extract`` run: it selects regions and measures them."""

    tuned: Tuned
    candidates: Mapping[str, ray.ObjectRef]
    """References to the `Candidates` in Ray's object store, keyed by the kind's name."""

    constants: Mapping[str, Mapping[str, float]]
    """Metrics that do not depend on the selection, keyed by the kind's name."""

    truth: ray.ObjectRef | None
    """Reference to the `Truth` in Ray's object store, or None."""

    downstream: Downstream | None
    cwd: Path
    """Folder that relative paths refer to."""

    reuse: bool = True

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Select regions under a setting, and return their metrics."""
        kind = trial_id(heavy_of(setting))
        candidates: Candidates = _fetch(self.candidates[kind])
        truth: Truth | None = self.truth and _fetch(self.truth)
        # Relative paths refer to the driver's working directory, if this node has it.
        if self.cwd.is_dir():
            os.chdir(self.cwd)
        # "-" is a placeholder: a selection writes no output of its own.
        config = cast(ExtractConfig, self.tuned.config(setting, "-"))
        selection = candidates.select(config.detector)
        metrics = {**selection_metrics(selection, candidates, truth), **self.constants[kind]}
        if self.downstream:
            metrics |= self.downstream(candidates, selection, config, trial_id(setting))
        return metrics


_fetched: dict[ray.ObjectRef, object] = {}


def _fetch(reference: ray.ObjectRef) -> Any:
    """Get an object from Ray's object store, once per process to keep the caches in the object."""
    if reference not in _fetched:
        _fetched[reference] = ray.get(reference)
    return _fetched[reference]


def is_light(name: str) -> bool:
    """Return whether an option changes only the selection, not the proposals."""
    return name.rpartition(".")[0] == "detector" and name.rpartition(".")[2] in LIGHT


def heavy_of(setting: Setting) -> Setting:
    """Return a setting's kind: the options that change the proposals."""
    return {name: value for name, value in setting.items() if not is_light(name)}


@dataclass(frozen=True, eq=False)
class Collected:
    """Collected proposals for one kind."""

    setting: Setting
    candidates: Candidates
    config: ExtractConfig

    rate: float
    """Images per second when the proposals were collected, including the detectors' startup."""


def collect_kinds(
    tuned: Tuned, kinds: Iterable[Setting], folder: Path, *, with_feats: bool
) -> dict[str, Collected]:
    """Run the detector on the images once per kind; complete collections are only opened.

    Returns:
        The collected proposals, keyed by the kind's name.

    Raises:
        ValueError: The images or the options of the detector are invalid, or the cluster is too
            small.
    """
    collected: dict[str, Collected] = {}
    for setting in kinds:
        name = trial_id(setting)
        if name in collected:
            continue
        if setting:
            log.info("proposals with %s", ", ".join(f"{k}={v}" for k, v in setting.items()))
        kind_folder = folder / name
        config = cast(ExtractConfig, tuned.config(setting, kind_folder))
        path = kind_folder / ("pooled" if with_feats else "boxes")
        before, began = _count_images(path), time.monotonic()
        candidates = collect(config, kind_folder, with_feats=with_feats)
        seconds = time.monotonic() - began
        images = len(candidates.image_ids)
        rate = _recorded_rate(path.with_suffix(".json"), images, before, seconds)
        collected[name] = Collected(setting, candidates, config, rate)
    return collected


def _count_images(path: Path) -> int:
    from vlray.regions.output import open_output

    if not (path / parts.SETTINGS).is_file():
        return 0
    return sum(batch.num_rows for batch in open_output(str(path)).iter_batches(["image_id"]))


def _recorded_rate(path: Path, images: int, before: int, seconds: float) -> float:
    """Record the speed of a collection, or return the speed that an earlier run recorded.

    Args:
        path: Path of the file with the record.
        images: Number of images in the collection.
        before: Number of images that interrupted runs had collected.
        seconds: Time that this run took to collect the other images.

    Returns:
        Images per second; NaN if the speed was not measured.

    Raises:
        ValueError: The number of images differs from the recorded number, so trials would not be
            comparable.
    """
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["images"] != images:
            raise ValueError(
                f"the sweep began with {record['images']:,} images, but now there are {images:,}; "
                "its trials would not be comparable: pass another OUT"
            )
        return float(record[RATE] or "nan")
    # A run that collects nothing, because the last one died before this record, has no speed.
    rate = (images - before) / seconds if images > before else None
    record = {"images": images, "seconds": seconds, RATE: rate}
    files.write_atomic(*files.resolve(path), (json.dumps(record) + "\n").encode())
    return rate or float("nan")
