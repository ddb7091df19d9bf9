"""Open what a test is of: the checkpoint, the split and its regions; refuse what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlray.config.test import TestConfig
from vlray.config.train import Objective
from vlray.evaluation.retrieval import of_images
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.open import outputs_by_name
from vlray.loader.phrases import check_grounded
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint
from vlray.models.store import locate
from vlray.regions.store import RegionStore, open_store
from vlray.tasks.corpus import Corpus, open_corpus, parse_parts
from vlray.tasks.examples import ExampleTable
from vlray.tasks.labels import LabelSpace, has_known_answer
from vlray.tasks.problems import Problems
from vlray.tasks.spec import LabelKind

log = logging.getLogger("vlray.evaluation")

FITTING: Mapping[Objective, tuple[LabelKind, ...]] = {
    "labels": ("answers", "classes"),
    "choices": ("choices",),
    "phrases": ("boxes",),
}
"""Labels that a model of an objective can be tested on; those of the others need none."""


@dataclass(frozen=True, eq=False)
class Test:
    """What is tested on what.

    Attributes:
        folder: The checkpoint.
        model: In evaluation mode, on the CPU.
        dataset: The usable examples, or as many as were asked for.
        num_left_out: Examples of the split without regions; none are counted with a limit.
        num_unknown: Usable examples of which no right answer is among the model's labels.
    """

    folder: Path
    model: Any
    info: CheckpointInfo
    dataset: RegionDataset
    num_left_out: int
    num_unknown: int

    @property
    def is_retrieval(self) -> bool:
        """Whether texts and images are ranked, and nothing is answered."""
        return self.info.goal.objective == "matching"

    @property
    def table(self) -> ExampleTable:
        """The split."""
        return self.dataset.corpus.tables[0]


def open_test(config: TestConfig) -> Test:
    """Open the checkpoint, the split and the regions.

    Raises:
        ValueError: Something is not given, does not exist, or does not fit together; says which.
        FileNotFoundError: The checkpoint, an annotation file or an output is not there.
    """
    _refuse_missing(config)
    data = config.data.below(config.env.data_dir)
    folder = locate(config.checkpoint, cache=data.cache_folder())
    info = CheckpointInfo.read(folder)
    space = LabelSpace(info.goal.labels) if info.goal.labels else None
    corpus = open_corpus(config.corpus, data, space)
    table = corpus.tables[0]
    _check_objective(info, corpus)
    places = outputs_by_name(config.regions) if config.regions else info.regions
    wanted = corpus.spec.parts[0].regions
    places = {wanted: places[wanted]} if wanted in places else places
    stores = {name: open_store(place, data.cache_folder()) for name, place in places.items()}
    _check_width(info, stores)
    dataset = RegionDataset(
        corpus,
        stores,
        Collate(info.loader),
        on_bad=data.on_bad,
        trained_on=_trained_on(info, stores),
    )
    num_left_out = len(table) - len(dataset)
    if config.limit:
        narrowed = of_images if info.goal.objective == "matching" else _of_examples
        dataset, num_left_out = narrowed(dataset, config.limit), 0
    _check_images(info, dataset)
    num_unknown = _check_labels(info, dataset)
    model, _ = load_checkpoint(folder)
    return Test(folder, model.eval(), info, dataset, num_left_out, num_unknown)


def _of_examples(dataset: RegionDataset, count: int) -> RegionDataset:
    """Narrow a dataset to some of its examples, evenly spread over it."""
    if count >= len(dataset):
        return dataset
    return dataset.subset(np.arange(count) * len(dataset) // count)


def _refuse_missing(config: TestConfig) -> None:
    if not config.checkpoint:
        raise ValueError("no checkpoint is given; name the OUT of a vlray train: CHECKPOINT")
    if not config.corpus:
        raise ValueError("no split is given; name one to test on, such as vqa:minival: DATA")
    if len(parts := parse_parts(config.corpus)) > 1:
        raise ValueError(
            f"{config.corpus} is {len(parts)} splits; test them one by one, since each has its own "
            "figures and file"
        )


def _check_objective(info: CheckpointInfo, corpus: Corpus) -> None:
    table = corpus.tables[0]
    objective, kind = info.goal.objective, table.spec.labels
    if objective in FITTING and kind not in FITTING[objective]:
        raise ValueError(
            f"the checkpoint was trained for {objective} (on {info.corpus}), but the labels of "
            f"{table.name} are {kind}; test it on a split with "
            f"{' or '.join(FITTING[objective])}"
        )
    if objective == "phrases":
        check_grounded(corpus)


def _check_width(info: CheckpointInfo, stores: Mapping[str, RegionStore]) -> None:
    for store in stores.values():
        if store.feature_dim != info.goal.feature_dim:
            raise ValueError(
                f"the regions of {store.output} are vectors of {store.feature_dim:,}, but the "
                f"model was trained on {info.goal.feature_dim:,}; give regions of the detector "
                f"that made {', '.join(info.regions.values())}"
            )


def _trained_on(
    info: CheckpointInfo, stores: Mapping[str, RegionStore]
) -> dict[str, Mapping[str, Any]]:
    """Give each output the provenance of its name; where there was only one, that of this one."""
    only = next(iter(info.provenance.values())) if len(info.provenance) == 1 else None
    found = {name: info.provenance.get(name, only) for name in stores}
    return {name: before for name, before in found.items() if before is not None}


def _check_images(info: CheckpointInfo, dataset: RegionDataset) -> None:
    images = dataset.join.kinds[0][1]
    if images != info.goal.num_images:
        raise ValueError(
            f"the examples of {dataset.corpus.spec} have {images} images each, but the model was "
            f"trained on {info.goal.num_images} (of {info.corpus}); test it on a split like that"
        )


def _check_labels(info: CheckpointInfo, dataset: RegionDataset) -> int:
    """Count the examples of which the model has no right answer.

    Raises:
        ValueError: It has none of all of them, or lacks a class.
    """
    space, table = dataset.corpus.label_space, dataset.corpus.tables[0]
    if info.goal.objective != "labels" or space is None:
        return 0
    shown = ", ".join(space.names[:4])
    lacking = [name for name in table.spec.classes if space.id_of(name) is None]
    if lacking:
        raise ValueError(
            f"{table.name} has the classes {', '.join(table.spec.classes)}, but the model's "
            f"{len(space):,} labels ({shown}, ...) lack {', '.join(lacking)}; it was trained on "
            f"{info.corpus}, and can be tested on splits of such labels"
        )
    known = has_known_answer(table, space, Problems())
    part = dataset.join.parts[0]
    usable = known if part.examples is None else known[part.examples]
    if len(usable) and not usable.any():
        raise ValueError(
            f"not one of the {len(usable):,} examples of {table.name} has an answer among the "
            f"model's {len(space):,} labels ({shown}, ...); it was trained on {info.corpus}, and "
            "can be tested on splits with such answers"
        )
    return int((~usable).sum())
