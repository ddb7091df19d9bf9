"""Vectors that are standardized by numbers that stay with the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.batches import GOALS, batch_for, section
from vlray.config.loader import LoaderSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model
from vlray.models.standardize import Standardize

MEAN = np.linspace(1, 2, 8, dtype=np.float32)
DEVIATION = np.linspace(0.5, 4, 8, dtype=np.float32)
both = pytest.mark.parametrize("name", ["lxmert", "visualbert"])


def measured(name: str) -> Any:
    torch.manual_seed(0)
    model = load_model(section(name, standardize=True), GOALS["answers"]).eval()
    model.standardize.measure(MEAN, DEVIATION)
    return model


@both
@torch.no_grad()
def test_a_model_reads_what_a_plain_one_reads_of_standardized_vectors(name: str) -> None:
    model = measured(name)
    batch = batch_for(GOALS["answers"], numbers=4 if name == "lxmert" else 0)
    torch.manual_seed(0)
    plain = load_model(section(name), GOALS["answers"]).eval()
    feats = (batch.visual_feats.float() - torch.from_numpy(MEAN)) / torch.from_numpy(DEVIATION)
    wanted = plain(replace(batch, visual_feats=feats)).scores
    torch.testing.assert_close(model(batch).scores, wanted, atol=1e-6, rtol=0)


@both
@torch.no_grad()
def test_a_checkpoint_has_its_numbers_with_it(name: str, tmp_path: Path) -> None:
    model = measured(name)
    batch = batch_for(GOALS["answers"], numbers=4 if name == "lxmert" else 0)
    model.save(tmp_path)
    info = CheckpointInfo("0", model.options, GOALS["answers"], LoaderSection(), "", {}, {})
    info.write(tmp_path)
    again, _ = load_checkpoint(tmp_path)
    assert torch.equal(again.eval()(batch).scores, model(batch).scores)
    (tmp_path / "standardize.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no standardize\.safetensors, which model\.standard"):
        load_checkpoint(tmp_path)


def test_a_rare_number_is_not_as_many_deviations_off_as_it_is_rare() -> None:
    part = Standardize(2)
    part.measure(np.zeros(2, np.float32), np.array([0.01, 1], np.float32))
    assert part(torch.tensor([[5.0, 5], [-5, -5]])).tolist() == [[6, 5], [-6, -5]]


def test_what_only_rounding_changes_counts_as_the_same() -> None:
    part = Standardize(2)
    part.measure(np.array([3, 0], np.float32), np.array([1e-6, 2], np.float32))
    torch.testing.assert_close(part(torch.tensor([[3.00001, 2]])), torch.tensor([[1e-5, 1]]))
