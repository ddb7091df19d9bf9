"""Trials that select: proposals are collected once for each kind of detection, then selected from.

A *kind* is what the options beside the selection's own are set to; an image size, for example.
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
from vlray.tuning.figures import figures
from vlray.tuning.ledger import trial_id
from vlray.tuning.objective import DOWNSTREAM, RATE, Objective
from vlray.tuning.training import train_once
from vlray.tuning.truth import Truth
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Report

log = logging.getLogger("vlray.tuning")


@dataclass(frozen=True, eq=False)
class Downstream:
    """The training whose figure a selection is judged by."""

    config: TrainConfig
    objective: Objective
    """By the name of its evaluations' figure; empty: their first."""

    folder: Path
    """For regions, models and metrics while a trial lasts."""

    def __call__(
        self, candidates: Candidates, selection: Any, extract: ExtractConfig, name: str
    ) -> dict[str, float]:
        """Write the regions, train on them, and give the figures of the best evaluation."""
        folder = self.folder / name
        regions = folder / "regions"
        candidates.write(selection, extract, str(regions))
        data = self.config.data.model_copy(update={"cache_dir": str(self._cache(folder))})
        config = self.config.model_copy(
            update={"regions": (str(regions),), "output": str(folder / "model"), "data": data}
        )
        found = train_once(config, folder / "run", self.objective, None)
        shutil.rmtree(folder)
        first = next(iter(found.values()))
        return {DOWNSTREAM: first} | {f"{DOWNSTREAM}/{n}": value for n, value in found.items()}

    def _cache(self, folder: Path) -> Path:
        """Make a cache that goes with the trial's regions, but has everyone's examples."""
        examples = self.config.data.cache_folder() / "examples"
        examples.mkdir(parents=True, exist_ok=True)
        cache = folder / "cache"
        cache.mkdir(exist_ok=True)
        if not (cache / "examples").exists():
            (cache / "examples").symlink_to(examples.absolute())
        return cache


@dataclass(frozen=True, eq=False)
class Selections:
    """What a trial does for ``-- extract``."""

    tuned: Tuned
    candidates: Mapping[str, Any]
    """In Ray's object store, by their kind."""

    constants: Mapping[str, Mapping[str, float]]
    """Figures that are the same whatever is selected, by the kind."""

    truth: Any
    """In Ray's object store; None: there is none."""

    downstream: Downstream | None
    cwd: Path
    """What relative paths are meant from."""

    reuse: bool = True

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Select, and measure what was selected."""
        kind = trial_id(heavy_of(setting))
        candidates: Candidates = _opened(self.candidates[kind])
        truth: Truth | None = self.truth and _opened(self.truth)
        if self.cwd.is_dir():
            os.chdir(self.cwd)
        config = cast(ExtractConfig, self.tuned.config(setting, "-"))
        selection = candidates.select(config.detector)
        found = {**figures(selection, candidates, truth), **self.constants[kind]}
        if self.downstream:
            found |= self.downstream(candidates, selection, config, trial_id(setting))
        return found


_kept: dict[Any, Any] = {}


def _opened(reference: Any) -> Any:
    """Get an object once in each process; what it computes and keeps stays with it."""
    if reference not in _kept:
        _kept[reference] = ray.get(reference)
    return _kept[reference]


def is_light(name: str) -> bool:
    """Tell whether an option only selects."""
    return name.rpartition(".")[0] == "detector" and name.rpartition(".")[2] in LIGHT


def heavy_of(setting: Setting) -> Setting:
    """Give what wants a collection of its own."""
    return {name: value for name, value in setting.items() if not is_light(name)}


@dataclass(frozen=True, eq=False)
class Collected:
    """The proposals of one kind."""

    setting: Setting
    candidates: Candidates
    config: ExtractConfig

    rate: float
    """Images a second while they were collected, the detectors' start included."""


def collect_kinds(
    tuned: Tuned, kinds: Iterable[Setting], folder: Path, *, with_feats: bool
) -> dict[str, Collected]:
    """Let the detector run once over the images for each kind; what is there is only opened.

    Raises:
        ValueError: The images, the detector or the cluster forbid it.
    """
    found: dict[str, Collected] = {}
    for setting in kinds:
        name = trial_id(setting)
        if name in found:
            continue
        if setting:
            log.info("proposals of %s", ", ".join(f"{k}={v}" for k, v in setting.items()))
        place = folder / name
        config = cast(ExtractConfig, tuned.config(setting, place))
        there = place / ("pooled" if with_feats else "boxes")
        before, began = _images_in(there), time.monotonic()
        candidates = collect(config, place, with_feats=with_feats)
        seconds = time.monotonic() - began
        rate = _kept_rate(there.with_suffix(".json"), len(candidates.image_ids), before, seconds)
        found[name] = Collected(setting, candidates, config, rate)
    return found


def _images_in(place: Path) -> int:
    from vlray.regions.output import open_output

    if not (place / parts.SETTINGS).is_file():
        return 0
    return sum(batch.num_rows for batch in open_output(str(place)).iter_batches(["image_id"]))


def _kept_rate(path: Path, images: int, before: int, seconds: float) -> float:
    """Keep how fast a collection was, for the runs that only open it.

    Raises:
        ValueError: It had other images when it was complete: trials would not compare.
    """
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["images"] != images:
            raise ValueError(
                f"the sweep began with {kept['images']:,} images, and now there are {images:,}, on "
                "which other trials would not compare; give another OUT"
            )
        return float(kept[RATE] or "nan")
    rate = (images - before) / seconds if images > before else None
    fs, place = files.resolve(path)
    kept = {"images": images, "seconds": seconds, RATE: rate}
    files.write_atomic(fs, place, (json.dumps(kept) + "\n").encode())
    return rate or float("nan")
