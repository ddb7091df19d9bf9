"""Models by name, models of one's own, and checkpoints."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from tests.models.batches import DIM, GOALS, SIZES, batch_for, section
from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.models.build import save_network
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model, model_class
from vlray.models.lxmert import Lxmert
from vlray.models.lxmert_pretraining import LxmertPretraining
from vlray.models.names import named
from vlray.models.protocol import Goal
from vlray.models.visualbert import VisualBert
from vlray.settings.state import remove, store

MINE = '''
from pathlib import Path

import torch
from torch import nn

from vlray.models.losses import cross_entropy
from vlray.models.protocol import ModelOutputs


class Mine(nn.Module):
    """Scores labels from the mean region."""

    def __init__(self, options, goal):
        super().__init__()
        self.head = nn.Linear(goal.feature_dim, len(goal.labels))
        if options.weights:
            self.load_state_dict(torch.load(Path(options.weights) / "mine.pt"))

    @classmethod
    def loader_defaults(cls, options, goal):
        return {"boxes": "none"}

    def forward(self, batch, *, attention=False):
        scores = self.head(batch.visual_feats.float().mean(1))
        losses = {} if batch.label_ids is None else {"mine": cross_entropy(scores, batch.label_ids)}
        return ModelOutputs(losses, scores)

    def save(self, folder):
        torch.save(self.state_dict(), folder / "mine.pt")
'''
GOAL = GOALS["classes"]


def file_of(folder: Path, old: str = "", new: str = "") -> str:
    path = folder / "mine.py"
    assert old in MINE
    path.write_text(MINE.replace(old, new) if old else MINE, encoding="utf-8")
    return f"{path}:Mine"


def checkpoint(folder: Path, name: str, goal: Goal = GOAL) -> Path:
    options = ModelSection(name=name) if ":" in name else section(name)
    load_model(options, goal).save(folder)
    CheckpointInfo("0", options, goal, LoaderSection(), "", {}, {}).write(folder)
    return folder


def test_a_name_and_an_objective_stand_for_a_class() -> None:
    assert model_class(ModelSection(name="lxmert"), GOAL) is Lxmert
    assert model_class(ModelSection(name="visualbert"), GOAL) is VisualBert
    pretraining = Goal("pretraining", DIM)
    assert model_class(ModelSection(name="lxmert"), pretraining) is LxmertPretraining


def test_a_model_without_a_name_is_that_of_its_weights(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("lxmert", "visualbert", "mine", "other")}
    for folder in folders.values():
        folder.mkdir()
    ours = checkpoint(folders["visualbert"], "visualbert")
    theirs = checkpoint(folders["lxmert"], "lxmert")
    (theirs / "vlray.json").unlink()  # as save_pretrained leaves it
    mine = checkpoint(folders["mine"], file_of(tmp_path))
    (tmp_path / "best").symlink_to(ours)  # an OUT of a training
    save_network(BertModel(BertConfig(**SIZES, num_hidden_layers=1)), folders["other"])
    for weights, name in (
        ("", "lxmert"),
        (ours, "visualbert"),
        (tmp_path / "best", "visualbert"),
        (theirs, "lxmert"),
        (folders["other"], "lxmert"),
    ):
        assert named(ModelSection(weights=str(weights))).name == name
    assert isinstance(load_model(ModelSection(weights=str(ours)), GOAL), VisualBert)
    assert named(ModelSection(name="lxmert", weights=str(ours))).name == "lxmert"
    with pytest.raises(ValueError, match=r"--model\.name .*mine"):
        named(ModelSection(weights=str(mine)))
    with pytest.raises(ValueError, match="is not a folder"):
        named(ModelSection(weights="./nothing"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'visualbert'\?\); pass one of lxmert"):
        model_class(ModelSection(name="visualbrt"), GOAL)


def test_a_stored_name_stands_for_what_was_stored(tmp_path: Path) -> None:
    store("models.ours", file_of(tmp_path))
    store("models.theirs", "lite")  # a detector
    try:
        assert model_class(ModelSection(name="ours"), GOAL).__name__ == "Mine"
        with pytest.raises(
            ValueError, match="the stored model 'theirs' is 'lite', which is not a model"
        ):
            model_class(ModelSection(name="theirs"), GOAL)
    finally:
        remove("models.ours")
        remove("models.theirs")


def test_a_file_wants_its_class_named(tmp_path: Path) -> None:
    path = file_of(tmp_path).removesuffix(":Mine")
    with pytest.raises(ValueError, match=r"is a file; name its class too"):
        model_class(ModelSection(name=path), GOAL)


def test_a_model_of_ones_own_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    name = file_of(tmp_path)
    model = load_model(ModelSection(name=name), GOAL)
    outputs = model(batch_for(GOAL))
    assert outputs.losses["mine"].count == 2
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    checkpoint(folder, name)
    with pytest.raises(ValueError, match="that is not lxmert"):
        load_checkpoint(folder, "lxmert")
    again, info = load_checkpoint(folder, name)
    assert info.model.name == name
    assert again.head.weight.shape == (len(GOAL.labels), DIM)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(nn.Module)", "", "not a class of torch.nn.Module"),
        ("def save(", "def keep(", "has no method save"),
        ("def forward(", "def compute(", "has no method forward"),
        ("def loader_defaults(", "def defaults(", "has no method loader_defaults"),
        ("batch, *, attention=False", "batch", "forward does not accept self, batch, attention"),
        ("self, options, goal", "self, options", "the class does not accept options, goal"),
        ("self, folder", "self", "save does not accept self, folder"),
    ],
)
def test_a_class_that_does_not_conform_is_told_what_it_lacks(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        model_class(ModelSection(name=file_of(tmp_path, old, new)), GOAL)
    assert "vlray/models/protocol.py has the details" in str(caught.value)


def test_new_parameters_have_to_be_the_models_own(tmp_path: Path) -> None:
    method = (
        "    def new_parameters(self):\n        return frozenset({'haed.weight'})\n\n    def save("
    )
    name = file_of(tmp_path, "    def save(", method)
    with pytest.raises(ValueError, match=r"new_parameters names haed\.weight"):
        load_model(ModelSection(name=name), GOAL)


@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(name: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, name) / "model.safetensors"
    tensors = load_file(path)
    del tensors[next(key for key in tensors if "pooler.dense.weight" in key)]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks .*pooler\.dense; its files were changed"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_a_checkpoint_with_a_tensor_too_many_is_refused(name: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, name) / "model.safetensors"
    save_file(load_file(path) | {"more.weight": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has tensors that the model lacks: more"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_a_checkpoint_of_another_label_space_is_refused(name: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, name) / "vlray.json"
    values = json.loads(path.read_text())
    values["goal"]["labels"].append("blue")
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="has other shapes of"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "lxmert") / "vlray.json"
    values = json.loads(path.read_text())
    values["model"] |= {"name": "visualbert", "architecture": {}}
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"of the kind 'lxmert', but model\.name=visualbert"):
        load_checkpoint(tmp_path)


def test_a_folder_of_transformers_is_no_checkpoint_to_test(tmp_path: Path) -> None:
    (checkpoint(tmp_path, "lxmert") / "vlray.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"not a checkpoint of vlray train: it has no vlray"
    ):
        load_checkpoint(tmp_path)


def test_loading_a_checkpoint_writes_nothing_of_transformers_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_checkpoint(checkpoint(tmp_path, "visualbert"))
    assert capfd.readouterr() == ("", "")
    assert not caplog.messages
