"""Weights of other code bases, by their own names: LXMERT, VisualBERT and training scripts."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LxmertConfig,
    LxmertForPreTraining,
    VisualBertConfig,
    VisualBertForPreTraining,
)

from tests.models.batches import DIM, GOALS, LAYERS, SIZES
from vlray.config.model import ModelSection
from vlray.models.load import load_model
from vlray.models.names import named
from vlray.models.weights import find

Tensors = dict[str, Tensor]
HEADS = {"num_attention_heads": 2}  # tensors of this size do not show it
ANSWERS = ("two", "red", "no", "green", "yes")


def lxmert() -> LxmertForPreTraining:
    torch.manual_seed(4)
    sizes = {"num_qa_labels": len(ANSWERS), "num_object_labels": 6, "num_attr_labels": 7}
    return LxmertForPreTraining(LxmertConfig(**LAYERS["lxmert"], visual_feat_dim=DIM, **sizes))


def visualbert() -> VisualBertForPreTraining:
    torch.manual_seed(5)
    config = VisualBertConfig(**LAYERS["visualbert"], visual_embedding_dim=DIM)
    network = VisualBertForPreTraining(config)
    for name in ("token_type", "position"):  # otherwise copies of those of the tokens
        getattr(network.visual_bert.embeddings, f"visual_{name}_embeddings").weight.data.normal_()
    return network


def bert() -> BertForMaskedLM:
    torch.manual_seed(6)
    return BertForMaskedLM(BertConfig(**SIZES, num_hidden_layers=2))


def lxrt(tensors: Tensors) -> Tensors:
    """Rename as in airsplay/lxmert, whose pretraining saves a DataParallel."""
    return {f"module.{re.sub('^lxmert', 'bert', name)}": t for name, t in tensors.items()}


def uclanlp(tensors: Tensors) -> Tensors:
    """Rename as in uclanlp/visualbert, whose model is the ``bert`` of another one."""
    renamed = {}
    for old, tensor in tensors.items():
        name = re.sub(r"visual_(token_type|position)_embeddings", r"\1_embeddings_visual", old)
        name = name.replace("visual_projection", "projection").replace("visual_bert", "bert")
        renamed[f"bert.{name}"] = tensor
    return renamed


def tensorflow(tensors: Tensors) -> Tensors:
    """Rename as in the first BERTs that were converted from TensorFlow."""
    names = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    renamed = {}
    for old, tensor in tensors.items():
        name = old
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed


def saved(folder: Path, content: Mapping[str, Any]) -> str:
    torch.save(content, folder / "weights.pth")
    return str(folder / "weights.pth")


def built(name: str, weights: str, **options: Any) -> Any:
    return load_model(
        ModelSection(name=name, weights=weights, architecture=HEADS, **options), GOALS["answers"]
    )


def check_filled(model: Any, old: Tensors, but: tuple[str, ...]) -> None:
    """Compare all tensors with the old ones, except for those of new heads."""
    for name, tensor in model.network.state_dict().items():
        if not name.startswith(but):
            torch.testing.assert_close(tensor, old[name], atol=0, rtol=0)
    new = {name.removeprefix("network.") for name in model.new_parameters()}
    assert all(name.startswith(but) for name in new), new


@pytest.mark.parametrize("legacy", [True, False], ids=["2019", "today"])
def test_lxmerts_own_file_fills_all_but_the_answers(legacy: bool, tmp_path: Path) -> None:
    old = lxmert().state_dict()
    weights = str(tmp_path / "Epoch20_LXRT.pth")
    torch.save(lxrt(old), weights, _use_new_zipfile_serialization=not legacy)
    options = named(ModelSection(weights=weights, architecture=HEADS))
    assert options.name == "lxmert"
    check_filled(load_model(options, GOALS["answers"]), old, ("answer_head.",))


def test_lxmerts_own_file_gives_its_sizes(tmp_path: Path) -> None:
    network = lxmert()
    config = find(saved(tmp_path, lxrt(network.state_dict()))).config
    assert config["model_type"] == "lxmert"
    for field, value in config.items():
        assert value == getattr(network.config, field), field
    assert {"l_layers", "num_qa_labels", "num_attr_labels", "visual_feat_dim"} <= set(config)


def test_lxmerts_trained_answers_are_taken_row_by_row(tmp_path: Path) -> None:
    old = lxmert().state_dict()
    answers = tmp_path / "all_ans.json"
    answers.write_text(str([{"ans": answer, "dsets": {}} for answer in ANSWERS]).replace("'", '"'))
    model = built("lxmert", saved(tmp_path, lxrt(old)), answers=str(answers))
    rows = old["answer_head.logit_fc.3.weight"]
    wanted = torch.stack([rows[ANSWERS.index(label)] for label in GOALS["answers"].labels])
    assert torch.equal(model.network.answer_head.logit_fc[3].weight, wanted)
    assert not model.new_parameters()


def test_visualberts_own_file_fills_all_but_the_answers(tmp_path: Path) -> None:
    old = visualbert().state_dict()
    weights = saved(tmp_path, uclanlp(old))
    assert find(weights).kind == "visual_bert"
    check_filled(built("visualbert", weights), old, ("cls.",))


WRAPPED: dict[str, Callable[[Tensors], dict[str, Any]]] = {
    "plain": lambda tensors: dict(tensors),
    "without bert.": lambda t: {name.removeprefix("bert."): v for name, v in t.items()},
    "DataParallel": lambda tensors: {f"module.{name}": t for name, t in tensors.items()},
    "bert.bert.": lambda tensors: {f"bert.{name}": t for name, t in tensors.items()},
    "Lightning": lambda tensors: {
        "state_dict": {f"model.{name}": t for name, t in tensors.items()},
        "epoch": 3,
    },
    "compiled": lambda tensors: {"model": {f"_orig_mod.{n}": t for n, t in tensors.items()}},
    "TensorFlow": tensorflow,
    "all at once": lambda tensors: {
        "optimizer": {"state": {0: torch.zeros(3)}},
        "model": {"state_dict": {f"module.{n}": t for n, t in tensorflow(tensors).items()}},
    },
}


@pytest.mark.parametrize("wrapped", list(WRAPPED))
@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_the_text_side_is_filled_from_a_wrapped_bert(
    name: str, wrapped: str, tmp_path: Path
) -> None:
    old = bert().state_dict()
    model = built(name, saved(tmp_path, WRAPPED[wrapped](old)))
    base = model.network.base_model
    new = {
        n.removeprefix(f"network.{model.network.base_model_prefix}.")
        for n in model.new_parameters()
    }
    taken = {n: t for n, t in base.state_dict().items() if f"bert.{n}" in old}
    assert len(taken) == 37  # five of the embeddings, sixteen of each layer
    assert not taken.keys() & new
    for key, tensor in taken.items():
        torch.testing.assert_close(tensor, old[f"bert.{key}"], atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["lxmert", "visualbert"])
def test_a_folder_of_transformers_may_have_other_prefixes(kind: str, tmp_path: Path) -> None:
    network = {"lxmert": lxmert, "visualbert": visualbert}[kind]()
    network.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    renamed = {f"module.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(renamed, path, {"format": "pt"})
    but = {"lxmert": "answer_head."}.get(kind, "cls.")
    check_filled(built(kind, str(tmp_path)), network.state_dict(), (but,))


def test_of_several_encoders_the_fullest_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = bert().state_dict()
    some = {f"module.{name}": torch.zeros_like(t) for name, t in old.items() if ".0." in name}
    with caplog.at_level(logging.INFO, "vlray.models"):
        model = built("visualbert", saved(tmp_path, some | old))
    layer = model.network.visual_bert.encoder.layer[0].output.dense
    assert torch.equal(layer.weight, old["bert.encoder.layer.0.output.dense.weight"])
    assert any("prefix 'bert.' fills 37 of 39 tensors" in line for line in caplog.messages)


@pytest.mark.parametrize("kind", ["lxmert", "visualbert", "bert"])
def test_a_file_that_lacks_one_tensor_of_the_encoder_is_refused(kind: str, tmp_path: Path) -> None:
    makers: dict[str, Callable[[], Any]] = {"lxmert": lxmert, "visualbert": visualbert}
    tensors = makers.get(kind, bert)().state_dict()
    del tensors[
        next(
            n
            for n in tensors
            if n.endswith(
                "layer.1.output.dense.bias" if kind != "lxmert" else "r_layers.0.output.dense.bias"
            )
        )
    ]
    weights = saved(tmp_path, tensors)
    with pytest.raises(
        ValueError, match=r"no values for 1 tensors of the encoder: .*output\.dense"
    ):
        built("visualbert" if kind == "bert" else kind, weights)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    weights = saved(tmp_path, {"backbone.conv1.weight": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match=r"no weights of a BERT, .*are backbone\.conv1"):
        find(weights)


def test_a_file_of_an_unusual_size_needs_its_number_of_heads(tmp_path: Path) -> None:
    weights = saved(tmp_path, lxrt(lxmert().state_dict()))
    with pytest.raises(ValueError, match=r"hidden size 16, do not show .* num_attention_heads=N"):
        load_model(ModelSection(name="lxmert", weights=weights), GOALS["answers"])


def test_the_configuration_beside_a_file_counts_if_its_sizes_are_the_files(tmp_path: Path) -> None:
    network = lxmert()
    network.config.save_pretrained(tmp_path)
    weights = saved(tmp_path, lxrt(network.state_dict()))
    assert find(weights).config["num_attention_heads"] == 2
    LxmertConfig().save_pretrained(tmp_path)
    torch.save(lxrt(network.state_dict()) | {"more": torch.zeros(1)}, weights)
    assert "num_attention_heads" not in find(weights).config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": bert, "epoch": 1}, "more than tensors .*never runs code"),
        ({"bert.x": np.zeros(3)}, r"more than tensors .*numpy.*never runs code"),
        ({"bert.x": [1, 2]}, "holds no tensors by name"),
        ([torch.zeros(1)], "holds no tensors by name"),
    ],
    ids=["function", "numpy", "list", "no names"],
)
def test_files_of_anything_but_tensors_are_refused(
    content: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        find(saved(tmp_path, content))


def test_a_dictionary_inside_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(ValueError, match="holds no tensors by name"):
        find(saved(tmp_path, content))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    weights = saved(tmp_path, bert().state_dict())
    data = Path(weights).read_bytes()
    Path(weights).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"weights\.pth is not a weights file, or it is damaged"):
        find(weights)
