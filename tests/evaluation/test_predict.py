"""Predictions: what is gathered of batches, whoever computes them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fixtures.world import ANSWERS, TRUTH, World
from vlray.config.data import DataSection
from vlray.config.test import TestConfig
from vlray.engine.evaluate import evaluate
from vlray.engine.group import Group
from vlray.evaluation.predict import headline, measure, predict
from vlray.evaluation.predicted import Predicted, Tally, merge
from vlray.evaluation.report import check_defined
from vlray.loader.collate import Collate
from vlray.loader.dataset import RegionDataset
from vlray.loader.loader import RegionLoader
from vlray.models.load import load_checkpoint
from vlray.models.protocol import Goal
from vlray.regions.store import open_store
from vlray.tasks.corpus import Corpus, CorpusSpec, open_corpus
from vlray.tasks.example import Boxes, Example
from vlray.tasks.examples import table_from
from vlray.tasks.labels import LabelSpace
from vlray.tasks.spec import DatasetSpec


def opened(world: World, checkpoint: str, corpus: str) -> tuple[torch.nn.Module, RegionDataset]:
    model, info = load_checkpoint(Path(checkpoint))
    data = DataSection(root=str(world.root), cache_dir=str(world.root / "cache"))
    space = LabelSpace(info.goal.labels) if info.goal.labels else None
    store = open_store(world.regions, data.cache_folder())
    return model, RegionDataset(open_corpus(corpus, data, space), store, Collate(info.loader))


def run(model: torch.nn.Module, dataset: RegionDataset, **share: int) -> Predicted:
    loader = RegionLoader(dataset, 5, shuffle=False, **share)
    return predict(model, loader, dataset, device="cpu", precision="fp32")


def test_workers_shares_make_the_same_as_one_worker(world: World) -> None:
    model, dataset = opened(world, world.checkpoint("lxmert", ANSWERS), "vqa:val")
    alone = run(model, dataset)
    shares = [run(model, dataset, rank=rank, world=3) for rank in range(3)]
    merged = merge([pickle.loads(pickle.dumps(share)) for share in shares])
    assert merged.predictions == alone.predictions
    assert len(alone.predictions) == alone.num_examples == merged.num_examples == 24
    assert merged.means == pytest.approx(alone.means)
    assert set(alone.predictions.values()) <= set(ANSWERS.labels)


def test_a_training_goes_on_as_if_nothing_had_happened(world: World) -> None:
    model, dataset = opened(world, world.checkpoint("lxmert", ANSWERS), "vqa:val")
    model.train()
    before = torch.get_rng_state()
    first = run(model, dataset)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert run(model, dataset) == first  # no dropout, and whatever is drawn is the same


def test_measures_are_the_datasets_own(world: World) -> None:
    model, dataset = opened(world, world.checkpoint("lxmert", ANSWERS, prefers=3), "vqa:val")
    found = run(model, dataset)
    metrics = measure(found, dataset)
    assert metrics is not None
    assert metrics.values == {"vqa accuracy": pytest.approx(50)}
    assert metrics.by["answer_type"]["yes/no"].percent == pytest.approx(100)
    assert headline(metrics, found.means) == ("vqa accuracy", pytest.approx(50), True)
    # What the batches' own targets say, where the dataset's metric cannot be asked.
    assert found.means["accuracy"] == pytest.approx(50)
    assert headline(None, found.means) == ("accuracy", pytest.approx(50), True)


def test_predictions_of_a_model_that_computes_nan_have_no_metric(world: World) -> None:
    config = TestConfig(checkpoint="it", corpus="vqa:val")
    model, dataset = opened(world, world.checkpoint("lxmert", ANSWERS), "vqa:val")
    check_defined(run(model, dataset).undefined, config)
    list(model.parameters())[-1].data.fill_(float("nan"))  # of the answer head
    shares = [run(model, dataset, rank=rank, world=2) for rank in range(2)]
    undefined = merge(shares).undefined
    assert len(undefined) == 24
    with pytest.raises(ValueError, match=r"^it computes NaN for 24 examples, such as 10\d\d: its"):
        check_defined(undefined, config)

    loader = RegionLoader(dataset, 5, shuffle=False)
    group = Group(0, 1, torch.device("cpu"))
    measured = evaluate(model, loader, group, "fp32")
    assert math.isnan(measured.values["vqa accuracy"])
    assert not measured.beats({"vqa accuracy": 0.0})


def test_a_part_of_a_dataset_is_measured_alone(world: World) -> None:
    model, dataset = opened(world, world.checkpoint("visualbert", TRUTH, prefers=1), "nlvr2:dev")
    part = dataset.subset(torch.arange(0, 12, 2).numpy())
    metrics = measure(run(model, part), part)
    assert metrics is not None
    assert len(metrics.scores) == 6
    assert metrics.missing == ()
    assert metrics.values["accuracy"] == pytest.approx(50)


def test_nothing_is_measured_where_nothing_is_published(world: World) -> None:
    model, dataset = opened(world, world.checkpoint("lxmert", ANSWERS), "vqa:test")
    found = run(model, dataset)
    assert len(found.predictions) == 2
    assert measure(found, dataset) is None


@pytest.mark.parametrize("objective", ["pretraining", "matching"])
def test_pretraining_has_losses_alone_and_the_same_masks_each_time(
    world: World, objective: str
) -> None:
    goal = Goal(objective, 8, num_objects=9)
    model, dataset = opened(world, world.checkpoint("visualbert", goal), "vqa:val")
    loader = RegionLoader(dataset, 5, shuffle=False)
    first = predict(model, loader, dataset, device="cpu", precision="fp32")
    loader.set_epoch(0)
    again = predict(model, loader, dataset, device="cpu", precision="fp32")
    assert first == again
    assert first.predictions == {}
    assert measure(first, dataset) is None
    name, value, is_higher_better = headline(None, first.means)
    expected = "loss" if objective == "pretraining" else "accuracy"
    assert (name, is_higher_better) == (expected, objective == "matching")
    assert value == first.means[expected] > 0


def test_losses_are_means_over_what_was_counted() -> None:
    one = Predicted(losses={"mlm": Tally(6, 3), "answers": Tally(0, 0)}, num_examples=2)
    other = Predicted(losses={"mlm": Tally(4, 1), "match": Tally(2, 2)}, num_examples=2)
    assert merge([one, other]).means == {"loss": 3.5, "loss/mlm": 2.5, "loss/match": 1.0}


def test_an_expression_gets_one_box_of_its_image(world: World, tmp_path: Path) -> None:
    values = {"name": "expressions", "title": "", "purposes": ["grounding"], "layout": "a:b"}
    values |= {"image_set": "coco", "labels": "boxes", "splits": {"val": {}}}
    spec = DatasetSpec.model_validate(values | {"metric": "box accuracy at IoU 0.5"})
    store = open_store(world.regions, world.root / "cache")
    boxes = np.empty((3, 4, 4), np.float32)
    store.read_boxes(store.rows(["1", "2", "3"]), boxes)
    examples = (
        Example(f"r{n}", "the red one", (str(n + 1),), Boxes((tuple(boxes[n, 0].tolist()),)))
        for n in range(3)
    )
    table = table_from(examples, spec, "val", tmp_path / "expressions.arrow")
    model, info = load_checkpoint(Path(world.checkpoint("visualbert", Goal("phrases", 8))))
    corpus = Corpus(CorpusSpec.model_validate({"parts": "expressions:val"}), (table,))
    dataset = RegionDataset(corpus, store, Collate(info.loader))
    found = run(model, dataset)
    for n in range(3):
        assert found.predictions[f"r{n}"] in boxes[n, : n + 1].tolist()
    metrics = measure(found, dataset)
    assert metrics is not None
    assert metrics.scores["r0"] == 1  # its image has one region
