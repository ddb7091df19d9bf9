"""Data of a training: examples, regions, and the objective that they imply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.config.train import Objective, TrainConfig
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.holdout import split_holdout
from vlray.loader.open import outputs_by_name
from vlray.loader.phrases import check_grounded
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import is_built_in, model_class
from vlray.models.protocol import Goal
from vlray.models.store import CheckpointStore, locate
from vlray.models.vocabulary import check_vocabulary, embedding_rows, settle_tokenizer
from vlray.regions.provenance import provenance_of
from vlray.regions.schema import Provenance
from vlray.regions.store import RegionStore, open_store
from vlray.storage import files
from vlray.tasks.corpus import Corpus, CorpusSpec, open_corpus
from vlray.tasks.labels import most_frequent
from vlray.tasks.saved_corpora import corpus_names, load_corpus

SUPERVISED = ("labels", "choices", "phrases")
"""Objectives that use the examples unchanged: they neither mask nor re-pair texts and images."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Datasets to train on and to evaluate on."""

    goal: Goal
    loader: LoaderSection
    """The user's options; options that are not set have the model's defaults."""

    train: RegionDataset
    valid: RegionDataset | None

    @property
    def regions(self) -> dict[str, str]:
        """Paths or URIs of the region outputs, keyed by name."""
        return {name: store.output for name, store in self.train.stores.items()}

    @cached_property
    def most_frequent(self) -> str:
        """Most frequent label of the training examples; empty if the objective is not labels."""
        corpus, space = self.train.corpus, self.train.corpus.label_space
        if self.goal.objective != "labels" or space is None:
            return ""
        return most_frequent(space, *corpus.tables)

    @property
    def provenance(self) -> dict[str, Provenance]:
        """Provenance of the region outputs, keyed by name."""
        return {name: provenance_of(store) for name, store in self.train.stores.items()}


def with_local_weights(config: TrainConfig) -> TrainConfig:
    """Replace weights that are the OUT of a training by the path of its best checkpoint."""
    weights, cache = config.model.weights, config.data.cache_folder()
    if not weights or not (
        files.is_uri(weights) or CheckpointStore(weights, cache).step_folder("best")
    ):
        return config
    model = config.model.model_copy(update={"weights": str(locate(weights, "best", cache))})
    return config.model_copy(update={"model": model})


def open_data(config: TrainConfig, resumed: CheckpointInfo | None = None) -> TrainingData:
    """Open the examples and regions, and derive the objective and the loader's options.

    Args:
        config: Options of the training; for a new one, see `with_local_weights`.
        resumed: Description of the checkpoint to resume from. None: a new training.

    Raises:
        ValueError: A dataset or split is unknown, or examples and regions do not fit together.
        FileNotFoundError: An annotation file or a region output does not exist.
        DataError: An example is bad, and ``data.on_bad`` is ``stop``.
    """
    data = config.data.below(config.env.data_dir)
    corpus = open_corpus(corpus_spec(config), data)
    stores = {
        name: open_store(path, data.cache_folder())
        for name, path in outputs_by_name(config.regions).items()
    }
    goal = goal_of(config, corpus, stores)
    loader = settle_loader(config, goal, resumed)
    options: dict[str, Any] = {"on_bad": data.on_bad, "seed": config.training.seed}
    collate = Collate(loader)
    if resumed is None and is_built_in(config.model, goal):
        pieces, model = collate.tokenizer.vocabulary_size, config.model
        check_vocabulary(loader.tokenizer, pieces, model.weights, embedding_rows(model))
    trained_on = resumed.provenance if resumed else None
    train = RegionDataset(corpus, stores, collate, trained_on=trained_on, **options)
    goal_images = {images for _, images in train.join.kinds}
    if goal_images != {goal.num_images}:
        raise ValueError(
            f"{config.corpus} has examples with {' and with '.join(map(str, sorted(goal_images)))} "
            "images; a model reads one number of images per example: train on these datasets one "
            "by one"
        )
    valid = None
    if config.validation.holdout:
        validation = config.validation
        train, valid = split_holdout(train, validation.holdout, validation.holdout_by)
    elif config.validation.valid:
        # Evaluate in the label space of the training: the model has no other labels.
        valid_corpus = open_corpus(config.validation.valid, data, corpus.label_space)
        valid = RegionDataset(valid_corpus, stores, Collate(loader), **options)
    return TrainingData(goal, loader, train, valid)


def corpus_spec(config: TrainConfig) -> CorpusSpec | str:
    """Return the project's saved corpus named ``config.corpus``, or that text if there is none."""
    if config.corpus in corpus_names(config.project):
        return load_corpus(config.corpus, config.project)
    return config.corpus


def goal_of(config: TrainConfig, corpus: Corpus, stores: dict[str, RegionStore]) -> Goal:
    """Describe what the model has to learn: objective, labels and sizes.

    Raises:
        ValueError: The labels do not fit the objective, or the region outputs have no vectors or
            vectors of different lengths.
    """
    objective = objective_of(config, corpus)
    if objective == "phrases":
        check_grounded(corpus)
    dims = {store.feature_dim for store in stores.values()}
    if len(dims) != 1 or 0 in dims:
        lengths = ", ".join(f"{store.output}: {store.feature_dim}" for store in stores.values())
        raise ValueError(
            f"the regions have vectors of different lengths, or no vectors ({lengths}); a model "
            "reads vectors of one length: extract all regions with one detector"
        )
    vocabularies = {(len(store.obj_names), len(store.attr_names)) for store in stores.values()}
    # Ids from different vocabularies mean different classes, so they cannot be predicted.
    objects, attributes = vocabularies.pop() if len(vocabularies) == 1 else (0, 0)
    space = corpus.label_space if objective in ("labels", "pretraining") else None
    first = corpus.take(np.array([0]))[0] if len(corpus) else None
    return Goal(
        objective,
        dims.pop(),
        labels=space.names if space else (),
        num_images=len(first.image_ids) if first else 1,
        soft=any(table.spec.soft_score != "exact" for table in corpus.tables),
        classes=all(table.spec.labels == "classes" for table in corpus.tables),
        auxiliary=_values_of(config.model.auxiliary, corpus),
        num_objects=objects,
        num_attributes=attributes,
    )


def _values_of(field: str, corpus: Corpus) -> tuple[str, ...]:
    """Return the values of a field of the examples, sorted; empty if no field is named.

    Raises:
        ValueError: No example has the field, or all have the same value.
    """
    if not field:
        return ()
    values: set[str] = set()
    for table in corpus.tables:
        column = pc.map_lookup(table.column("about"), pa.scalar(field), "first")
        values.update(pc.unique(column.drop_null()).to_pylist())
    if len(values) < 2:
        fields = sorted(corpus.take(np.array([0]))[0].about)
        raise ValueError(
            f"model.auxiliary={field}: the examples of {corpus.spec} have {len(values)} different "
            f"values of it; their fields are {', '.join(fields) or 'none'}"
        )
    return tuple(sorted(values))


def objective_of(config: TrainConfig, corpus: Corpus) -> Objective:
    """Return the configured objective; ``auto`` derives it from the kind of labels.

    Raises:
        ValueError: The labels do not fit the objective, or ``auto`` finds several kinds of labels
            or a kind that implies no objective.
    """
    kinds = {table.spec.labels for table in corpus.tables}
    by_kind: dict[str, Objective] = {
        "answers": "labels",
        "classes": "labels",
        "choices": "choices",
        "boxes": "phrases",
    }
    labels = f"the labels of {config.corpus} are {' and '.join(sorted(kinds))}"
    if config.objective == "auto":
        # None stands for kinds that imply no objective.
        objectives = {by_kind.get(kind) for kind in kinds}
        if len(objectives) == 1 and (only := objectives.pop()):
            return only
        raise ValueError(
            f"{labels}, which imply no objective; pass --objective pretraining or matching, which "
            "need texts alone, or datasets that have labels of one kind"
        )
    if config.objective in SUPERVISED and {by_kind.get(kind) for kind in kinds} != {
        config.objective
    }:
        needed = [kind for kind, objective in by_kind.items() if objective == config.objective]
        raise ValueError(
            f"objective {config.objective} needs {' or '.join(needed)}, but {labels}; pass another "
            "objective (auto chooses it by the labels) or another dataset"
        )
    return config.objective


def settle_loader(
    config: TrainConfig, goal: Goal, resumed: CheckpointInfo | None = None
) -> LoaderSection:
    """Fill the loader options that the user did not set with the model's defaults.

    The tokenizer is that of the checkpoint to resume from, the user's, or that of the weights.

    Raises:
        ValueError: ``loader.pretraining`` is set, but the objective masks nothing; or there is no
            tokenizer for the weights.
    """
    defaults = model_class(config.model, goal).loader_defaults(config.model, goal)
    settled = config.loader.settled(**defaults)
    if resumed:
        settled = settled.model_copy(update={"tokenizer": resumed.loader.tokenizer})
    elif is_built_in(config.model, goal):
        tokenizer = settle_tokenizer(config.model, settled.tokenizer)
        settled = settled.model_copy(update={"tokenizer": tokenizer})
    if goal.objective in SUPERVISED and settled.pretraining:
        raise ValueError(
            f"loader.pretraining is set, but the objective {goal.objective} masks nothing; "
            "remove it, or pass --objective pretraining"
        )
    if goal.objective not in SUPERVISED and not settled.pretraining:
        masks = PretrainingSection()
        # Matching re-pairs texts and images, but does not mask them.
        if goal.objective == "matching":
            masks = PretrainingSection(token_rate=0, region_rate=0)
        settled = settled.model_copy(update={"pretraining": masks})
    return settled
