"""Regions' vectors brought to mean 0 and deviation 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlray.config.model import ModelSection
from vlray.engine.data import open_data
from vlray.engine.standardize import standardize
from vlray.loader.dataset import RegionDataset
from vlray.models.load import load_model
from vlray.models.protocol import Goal
from vlray.models.standardize import Standardize

OPTIONS = ModelSection(
    name="visualbert",
    standardize=True,
    architecture={
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
)


@pytest.fixture
def dataset(make) -> RegionDataset:
    """A hundred questions on forty images; image n has n % 4 + 1 regions."""
    return open_data(make()).train


def test_the_vectors_of_the_training_get_mean_0_and_deviation_1(dataset, tmp_path) -> None:
    goal = Goal("labels", 8, labels=("no", "yes"))
    model = load_model(OPTIONS, goal)
    standardize(model, dataset)
    # The first forty questions are on forty images.
    batch = dataset.__getitems__(list(range(40)))
    vectors = model.standardize(batch.visual_feats)[batch.visual_attention_mask.bool()]
    assert len(vectors) == 10 * (1 + 2 + 3 + 4)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.std(0, correction=0), torch.ones(8), atol=1e-4, rtol=0)

    model.save(tmp_path)
    again = load_model(OPTIONS.model_copy(update={"weights": str(tmp_path)}), goal)
    assert torch.equal(again.standardize.mean, model.standardize.mean)
    again.standardize.mean.zero_()  # what weights came with stays as it is
    standardize(again, dataset)
    assert not again.standardize.mean.any()


def test_a_number_that_never_changes_is_not_divided_by_0() -> None:
    model = load_model(OPTIONS, Goal("labels", 2, labels=("no", "yes")))
    model.standardize.measure(np.array([3, 0], np.float32), np.array([0, 2], np.float32))
    assert model.standardize(torch.tensor([[3.0, 4.0]])).tolist() == [[0, 2]]


def test_numbers_of_other_vectors_and_models_without_any_are_refused(dataset, tmp_path) -> None:
    model = load_model(OPTIONS, Goal("labels", 8, labels=("no", "yes")))
    model.standardize.save(tmp_path)
    options = OPTIONS.model_copy(update={"weights": str(tmp_path)})
    with pytest.raises(
        ValueError, match=r"standardize\.safetensors does not fit vectors of length 4"
    ):
        Standardize.of(options, 4)
    with pytest.raises(ValueError, match="Linear has no attribute `standardize`"):
        standardize(torch.nn.Linear(1, 1), dataset)
