"""What a training reads: examples and regions, and what is to be learned from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.config.train import Objective, TrainConfig
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.holdout import split_holdout
from vlray.loader.open import outputs_by_name
from vlray.loader.phrases import check_grounded
from vlray.models.load import model_class
from vlray.models.protocol import Goal
from vlray.regions.provenance import provenance_of
from vlray.regions.store import RegionStore, open_store
from vlray.tasks.corpus import Corpus, CorpusSpec, open_corpus
from vlray.tasks.labels import most_frequent
from vlray.tasks.saved_corpora import corpus_names, load_corpus

PLAIN = ("labels", "choices", "phrases")
"""Objectives whose batches are as the dataset has them: nothing is masked or paired anew."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What is trained and evaluated on."""

    goal: Goal
    loader: LoaderSection
    """As it was settled with the model."""

    train: RegionDataset
    valid: RegionDataset | None

    @property
    def regions(self) -> dict[str, str]:
        """Places of the outputs, by name."""
        return {name: store.output for name, store in self.train.stores.items()}

    @cached_property
    def most_frequent(self) -> str:
        """The answer that most of what is trained on has; empty: there are no labels."""
        corpus, space = self.train.corpus, self.train.corpus.label_space
        if self.goal.objective != "labels" or space is None:
            return ""
        return most_frequent(space, *corpus.tables)

    @property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """What made them, by name."""
        return {name: provenance_of(store) for name, store in self.train.stores.items()}


def open_data(
    config: TrainConfig, trained_on: dict[str, dict[str, Any]] | None = None
) -> TrainingData:
    """Open everything, and settle what the model has to learn.

    Args:
        config: The options.
        trained_on: The provenance that a resumed run's checkpoint tells of.

    Raises:
        ValueError: A dataset, split or output does not exist, or they do not fit together.
        FileNotFoundError: An annotation file or an output is not there.
        DataError: Something is wrong with the data, and ``data.on_bad`` is stop.
    """
    data = config.data.below(config.env.data_dir)
    corpus = open_corpus(named_spec(config), data)
    stores = {
        name: open_store(place, data.cache_folder())
        for name, place in outputs_by_name(config.regions).items()
    }
    goal = goal_of(config, corpus, stores)
    loader = settle_loader(config, goal)
    how: dict[str, Any] = {"on_bad": data.on_bad, "seed": config.training.seed}
    train = RegionDataset(corpus, stores, Collate(loader), trained_on=trained_on, **how)
    goal_images = {images for _, images in train.join.kinds}
    if goal_images != {goal.num_images}:
        raise ValueError(
            f"{config.corpus} has examples of {' and of '.join(map(str, sorted(goal_images)))} "
            "images; a model is of one number of them: train on these datasets one by one"
        )
    valid = None
    if config.validation.holdout:
        held = config.validation
        train, valid = split_holdout(train, held.holdout, held.holdout_by)
    elif config.validation.valid:
        examples = open_corpus(config.validation.valid, data, corpus.label_space)
        valid = RegionDataset(examples, stores, Collate(loader), **how)
    return TrainingData(goal, loader, train, valid)


def named_spec(config: TrainConfig) -> CorpusSpec | str:
    """Give the corpus that the project keeps by the name, or else the text."""
    if config.corpus in corpus_names(config.project):
        return load_corpus(config.corpus, config.project)
    return config.corpus


def goal_of(config: TrainConfig, corpus: Corpus, stores: dict[str, RegionStore]) -> Goal:
    """Say what is to be learned.

    Raises:
        ValueError: The datasets have no such labels, or the outputs do not fit together.
    """
    objective = objective_of(config, corpus)
    if objective == "phrases":
        check_grounded(corpus)
    dims = {store.feature_dim for store in stores.values()}
    if len(dims) != 1 or 0 in dims:
        said = ", ".join(f"{store.output}: {store.feature_dim}" for store in stores.values())
        raise ValueError(
            f"the regions' vectors have different lengths or none ({said}); a model reads one "
            "length: extract all of them with one detector"
        )
    names = {(len(store.obj_names), len(store.attr_names)) for store in stores.values()}
    objects, attributes = names.pop() if len(names) == 1 else (0, 0)
    space = corpus.label_space if objective in ("labels", "pretraining") else None
    first = corpus.take(np.array([0]))[0] if len(corpus) else None
    return Goal(
        objective,
        dims.pop(),
        labels=space.names if space else (),
        num_images=len(first.image_ids) if first else 1,
        soft=any(table.spec.soft_score != "exact" for table in corpus.tables),
        classes=all(table.spec.labels == "classes" for table in corpus.tables),
        num_objects=objects,
        num_attributes=attributes,
    )


def objective_of(config: TrainConfig, corpus: Corpus) -> Objective:
    """Say what kind of thing is learned: what was asked for, or what the labels are.

    Raises:
        ValueError: The datasets have no such labels, or labels of several kinds.
    """
    kinds = {table.spec.labels for table in corpus.tables}
    by_kind: dict[str, Objective] = {
        "answers": "labels",
        "classes": "labels",
        "choices": "choices",
        "boxes": "phrases",
    }
    said = f"the labels of {config.corpus} are {' and '.join(sorted(kinds))}"
    if config.objective == "auto":
        found = {by_kind.get(kind) for kind in kinds}
        if len(found) == 1 and (only := found.pop()):
            return only
        raise ValueError(
            f"{said}, which does not say what is to be learned; give --objective: pretraining or "
            "matching, which want texts alone, or datasets that have labels of one kind"
        )
    if config.objective in PLAIN and {by_kind.get(kind) for kind in kinds} != {config.objective}:
        wanted = [kind for kind, objective in by_kind.items() if objective == config.objective]
        raise ValueError(
            f"objective {config.objective} wants {' or '.join(wanted)}, but {said}; give another "
            "objective (auto takes what the labels are for), or another dataset"
        )
    return config.objective


def settle_loader(config: TrainConfig, goal: Goal) -> LoaderSection:
    """Settle how batches are made: as the user says, and otherwise as the model wants it.

    Raises:
        ValueError: Something is to be masked where nothing is to be found again.
    """
    wanted = model_class(config.model, goal).loader_defaults(config.model, goal)
    settled = config.loader.settled(**wanted)
    if goal.objective in PLAIN and settled.pretraining:
        raise ValueError(
            f"loader.pretraining is given, but the objective {goal.objective} masks nothing; "
            "leave it away, or give --objective pretraining"
        )
    if goal.objective not in PLAIN and not settled.pretraining:
        masks = PretrainingSection()
        if goal.objective == "matching":
            masks = PretrainingSection(token_rate=0, region_rate=0)
        settled = settled.model_copy(update={"pretraining": masks})
    return settled
