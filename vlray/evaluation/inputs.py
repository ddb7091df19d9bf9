"""Inputs of a test: open the checkpoint, the split and the regions, and check that they match."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlray.config.test import TestConfig
from vlray.config.train import Objective
from vlray.evaluation.retrieval import narrow_to_images
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.open import outputs_by_name
from vlray.loader.phrases import check_grounded
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import confirmed_name, load_checkpoint
from vlray.models.store import locate
from vlray.regions.schema import Provenance
from vlray.regions.store import RegionStore, open_store
from vlray.settings.wording import counted
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
"""Label kinds that a model can be tested on, keyed by objective; other objectives accept any."""


@dataclass(frozen=True, eq=False)
class Test:
    """The inputs of a test.

    Attributes:
        folder: Folder of the checkpoint.
        model: The model, in evaluation mode, on the CPU.
        info: Metadata of the checkpoint.
        dataset: Examples that have regions; fewer if a limit is set.
        num_left_out: Number of examples without regions; 0 if a limit is set.
        num_unknown: Number of examples in ``dataset`` without a correct answer among the model's
            labels.
    """

    folder: Path
    model: Any
    info: CheckpointInfo
    dataset: RegionDataset
    num_left_out: int
    num_unknown: int

    @property
    def is_retrieval(self) -> bool:
        """Whether the model ranks texts and images instead of predicting answers."""
        return self.info.goal.objective == "matching"

    @property
    def table(self) -> ExampleTable:
        """The examples of the split."""
        return self.dataset.corpus.tables[0]


def open_test(config: TestConfig) -> Test:
    """Open the checkpoint, the split and the regions.

    Raises:
        ValueError: A required option is not set or its value is unknown, or the inputs do not fit
            together.
        FileNotFoundError: The checkpoint, an annotation file or an output does not exist.
    """
    _refuse_missing(config)
    data = config.data.below(config.env.data_dir)
    folder = locate(config.checkpoint, cache=data.cache_folder())
    info = CheckpointInfo.read(folder)
    confirmed_name(info, folder, config.model_name)
    space = LabelSpace(info.goal.labels) if info.goal.labels else None
    corpus = open_corpus(config.corpus, data, space)
    table = corpus.tables[0]
    _check_objective(info, corpus)
    outputs = outputs_by_name(config.regions) if config.regions else info.regions
    # A model may have been trained on several outputs; the split needs only one of them.
    # There is one part, because `_refuse_missing` accepts a single split.
    name = corpus.spec.parts[0].regions
    outputs = {name: outputs[name]} if name in outputs else outputs
    stores = {name: open_store(path, data.cache_folder()) for name, path in outputs.items()}
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
        narrow = narrow_to_images if info.goal.objective == "matching" else _narrow_to_examples
        # With a limit, only the selected examples are scored, so none counts as left out.
        dataset, num_left_out = narrow(dataset, config.limit), 0
    _check_images(info, dataset)
    num_unknown = _check_labels(info, dataset)
    # Load the weights last, so that invalid inputs are reported quickly.
    model, _ = load_checkpoint(folder, config.model_name)
    return Test(folder, model.eval(), info, dataset, num_left_out, num_unknown)


def _narrow_to_examples(dataset: RegionDataset, count: int) -> RegionDataset:
    """Select ``count`` examples, evenly spaced over the dataset."""
    if count >= len(dataset):
        return dataset
    return dataset.subset(np.arange(count) * len(dataset) // count)


def _refuse_missing(config: TestConfig) -> None:
    if not config.checkpoint:
        raise ValueError("CHECKPOINT is missing; pass the output folder of vlray train")
    if not config.corpus:
        raise ValueError("DATA is missing; pass a split, such as vqa:minival")
    if len(parts := parse_parts(config.corpus)) > 1:
        raise ValueError(
            f"{config.corpus} consists of {len(parts)} splits; test them one at a time, since "
            "each split has its own metrics and submission file"
        )


def _check_objective(info: CheckpointInfo, corpus: Corpus) -> None:
    table = corpus.tables[0]
    objective, kind = info.goal.objective, table.spec.labels
    # Other objectives, such as pretraining, have their own targets and need no labels.
    if objective in FITTING and kind not in FITTING[objective]:
        raise ValueError(
            f"the checkpoint was trained for {objective} (on {info.corpus}), but the labels in "
            f"{table.name} are {kind}; test it on a split whose labels are "
            f"{' or '.join(FITTING[objective])}"
        )
    if objective == "phrases":
        check_grounded(corpus)


def _check_width(info: CheckpointInfo, stores: Mapping[str, RegionStore]) -> None:
    for store in stores.values():
        if store.feature_dim != info.goal.feature_dim:
            raise ValueError(
                f"the feature vectors in {store.output} have length {store.feature_dim:,}, but "
                f"the model was trained on vectors of length {info.goal.feature_dim:,}; use "
                f"regions from the detector that made {', '.join(info.regions.values())}"
            )


def _trained_on(info: CheckpointInfo, stores: Mapping[str, RegionStore]) -> dict[str, Provenance]:
    """Return the provenance of the training regions, keyed by the name of each output under test.

    If the model was trained on a single output, that output's provenance applies to every name.
    """
    only = next(iter(info.provenance.values())) if len(info.provenance) == 1 else None
    provenance = {name: info.provenance.get(name, only) for name in stores}
    return {name: facts for name, facts in provenance.items() if facts is not None}


def _check_images(info: CheckpointInfo, dataset: RegionDataset) -> None:
    images = dataset.join.kinds[0][1]
    if images != info.goal.num_images:
        raise ValueError(
            f"each example in {dataset.corpus.spec} has {counted(images, 'image')}, but the model "
            f"was trained on examples with {info.goal.num_images} ({info.corpus}); test it on a "
            f"split with {info.goal.num_images} per example"
        )


def _check_labels(info: CheckpointInfo, dataset: RegionDataset) -> int:
    """Count the usable examples without a right answer among the model's labels.

    Raises:
        ValueError: No example has such an answer, or the model lacks a class of the dataset.
    """
    space, table = dataset.corpus.label_space, dataset.corpus.tables[0]
    if info.goal.objective != "labels" or space is None:
        return 0
    some = ", ".join(space.names[:4])
    missing = [name for name in table.spec.classes if space.id_of(name) is None]
    if missing:
        raise ValueError(
            f"{table.name} has the classes {', '.join(table.spec.classes)}, but the model's "
            f"{len(space):,} labels ({some}, ...) do not include {', '.join(missing)}. The model "
            f"was trained on {info.corpus}; test it on a split with the same labels"
        )
    is_known = has_known_answer(table, space, Problems())
    part = dataset.join.parts[0]
    usable = is_known if part.examples is None else is_known[part.examples]
    # Some unknown answers are normal, since vocabularies have only frequent answers; all unknown
    # means another vocabulary.
    if len(usable) and not usable.any():
        raise ValueError(
            f"none of the {len(usable):,} examples in {table.name} has an answer among the "
            f"model's {len(space):,} labels ({some}, ...). The model was trained on "
            f"{info.corpus}; test it on a split with the same answers"
        )
    return int((~usable).sum())
