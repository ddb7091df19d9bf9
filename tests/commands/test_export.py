"""The export command: what plain transformers computes with its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.fixtures.commands import Call
from tests.models.batches import DIM, GOALS, batch_for, section
from vlray import export
from vlray.config.loader import LoaderSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.checksums import write_checksums
from vlray.models.load import load_model
from vlray.models.protocol import Goal


def checkpoint(folder: Path, name: str, goal: Goal, **options: Any) -> Any:
    """Write a checkpoint of a model with random weights; return the model."""
    torch.manual_seed(0)
    model = load_model(section(name, **options), goal).eval()
    if model.standardize is not None:
        model.standardize.measure(np.arange(DIM, dtype=np.float32), np.full(DIM, 3, np.float32))
    folder.mkdir()
    model.save(folder)
    CheckpointInfo("0", model.options, goal, LoaderSection(), "vqa:train", {}, {}).write(folder)
    write_checksums(folder)
    return model


def test_lxmerts_answers_are_those_of_transformers_own_class(tmp_path: Path, call: Call) -> None:
    goal = GOALS["answers"]
    model = checkpoint(tmp_path / "model", "lxmert", goal, standardize=True)
    done = call(export.main, str(tmp_path / "model"), str(tmp_path / "plain"))
    assert done.status == 0, done.err
    assert "LxmertForQuestionAnswering.from_pretrained" in done.out
    network = transformers.LxmertForQuestionAnswering.from_pretrained(tmp_path / "plain").eval()
    assert network.config.id2label == dict(enumerate(goal.labels))
    batch = batch_for(goal)
    with torch.no_grad():
        scores = model(batch).scores
        outputs = network(**model._inputs(batch))
    torch.testing.assert_close(outputs.question_answering_score, scores, atol=1e-5, rtol=1e-4)
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "standardization of region vectors is a part of the weights" in card
    again = call(export.main, str(tmp_path / "model"), str(tmp_path / "plain"))
    assert again.status == 2
    assert "pass a new folder" in again.err


def test_a_head_that_transformers_lacks_is_left_out_and_named(tmp_path: Path, call: Call) -> None:
    goal = replace(GOALS["exact answers"], feature_dim=DIM)
    options = {"pooling": "mean", "box_feats": True, "standardize": True}
    model = checkpoint(tmp_path / "model", "visualbert", goal, **options)
    done = call(export.main, str(tmp_path / "model"), str(tmp_path / "plain"))
    assert done.status == 0, done.err
    assert "Left out, as transformers does not have it: the mean over" in done.out
    assert "Behind each region vector are x1, y1, x2, y2 and the area" in done.out
    network = transformers.VisualBertModel.from_pretrained(tmp_path / "plain").eval()
    batch = batch_for(goal, numbers=5)
    with torch.no_grad():
        inputs = model._inputs(model._standardize_regions(batch))
        states = model.network.visual_bert(**inputs).last_hidden_state
        plain = network(**model._inputs(batch)).last_hidden_state
    torch.testing.assert_close(plain, states, atol=1e-5, rtol=1e-4)


def test_a_model_of_ones_own_is_refused(tmp_path: Path, call: Call) -> None:
    checkpoint(tmp_path / "model", "lxmert", GOALS["answers"])
    text = (tmp_path / "model" / "vlray.json").read_text()
    (tmp_path / "model" / "vlray.json").write_text(text.replace('"lxmert"', '"own.py:Mine"'))
    done = call(export.main, str(tmp_path / "model"), str(tmp_path / "plain"))
    assert done.status == 2
    assert "has the model own.py:Mine" in done.err


@pytest.mark.parametrize("goal", ["pairs", "phrases"])
def test_lxmerts_heads_for_pairs_and_phrases_are_left_out(
    goal: str, tmp_path: Path, call: Call
) -> None:
    checkpoint(tmp_path / "model", "lxmert", GOALS[goal])
    done = call(export.main, str(tmp_path / "model"), str(tmp_path / "plain"))
    assert f"the head over {goal}" in done.out
    assert "LxmertModel.from_pretrained" in done.out
