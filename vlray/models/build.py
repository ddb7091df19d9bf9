"""Construction of transformers networks, with parameters from a checkpoint or a BERT."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PretrainedConfig, PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.filled import (
    check_complete,
    check_encoder,
    check_heads,
    check_shapes,
    check_width,
    missing_in_encoder,
    module_names,
)
from vlray.models.foreign import rename
from vlray.models.protocol import Goal
from vlray.models.tensors import read_tensors
from vlray.models.weights import Start, find, quiet
from vlray.settings.options import nearest

log = logging.getLogger("vlray.models")

Fields = Mapping[str, object]
"""Fields of a transformers configuration, by name."""

BERT_FIELDS = (
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""Configuration fields that must have the BERT's values, or its tensors do not fit."""


def load_network(
    network_class: type[PreTrainedModel],
    options: ModelSection,
    goal: Goal,
    fields: Fields,
    head_prefixes: Sequence[str],
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Build a transformers network and load ``model.weights`` into it.

    The configuration starts from the defaults of the class. The configuration of the weights
    overrides them, then ``model.architecture``, then ``fields``.

    Args:
        network_class: Class such as ``LxmertForQuestionAnswering``.
        options: Weights and architecture.
        goal: Learning goal. If a checkpoint has the same goal and options, all its tensors must
            fit.
        fields: Configuration fields that follow from the goal.
        head_prefixes: Name prefixes of the parameters that depend on the labels. These parameters
            are reinitialized if the weights were trained on other labels.

    Returns:
        The network, and the names of the parameters that the weights did not fill.

    Raises:
        ValueError: The weights were not found or do not fit, or a field of ``model.architecture``
            is unknown or conflicts with the goal.
    """
    config_class = network_class.config_class
    _check_fields(config_class, options.architecture, fields)
    if not options.weights:
        network = network_class(_config(config_class, options.architecture | dict(fields)))
        return network, frozenset(name for name, _ in network.named_parameters())
    source = find(options.weights)
    check_heads(source, options)
    if source.kind == "bert":
        network, new = _from_bert(network_class, source, options.architecture | dict(fields))
    elif source.kind == config_class.model_type:
        network, new = _from_checkpoint(network_class, source, options, goal, fields, head_prefixes)
    else:
        raise ValueError(
            f"model.weights={options.weights} is of the kind {source.kind!r}, but "
            f"model.name={options.name} starts from {config_class.model_type!r}, or from the text "
            "encoder of a 'bert'; pass the --model.name of these weights, or other weights"
        )
    total = sum(1 for _ in network.parameters())
    log.info(
        "%d of %d tensors are from %s; newly initialized: %s",
        total - len(new),
        total,
        options.weights,
        module_names(new) or "none",
    )
    return network, frozenset(new)


def label_fields(labels: Sequence[str]) -> dict[str, object]:
    """Return the configuration fields that hold the label names of the model's output scores."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def save_network(network: PreTrainedModel, folder: Path) -> None:
    """Save a network in the format that transformers' ``from_pretrained`` reads."""
    with quiet():
        network.save_pretrained(folder)


def _from_bert(
    network_class: type[PreTrainedModel], source: Start, overrides: dict[str, object]
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Build a network and copy a BERT's embeddings, layers and pooler into it, matched by name.

    If the BERT has more layers than the network, only the first ones are used. In VisualBERT, the
    position and token type embeddings for regions start as copies of those for tokens, as in
    uclanlp/visualbert.
    """
    config_class = network_class.config_class
    names = {field.name for field in dataclasses.fields(config_class)}
    bert_fields = {name: source.config[name] for name in BERT_FIELDS if name in source.config}
    for name, value in bert_fields.items():
        if overrides.get(name, value) != value:
            raise ValueError(
                f"model.architecture has {name}={overrides[name]}, but the BERT of model.weights "
                f"has {value}; remove it, or start from other weights"
            )
    # LXMERT names the number of its text layers l_layers.
    layers = "l_layers" if "l_layers" in names else "num_hidden_layers"
    bert_fields[layers] = source.config["num_hidden_layers"]
    for name in ("layer_norm_eps", "pad_token_id"):
        if name in names and name in source.config:
            bert_fields[name] = source.config[name]
    network = network_class(_config(config_class, bert_fields | overrides))
    tensors = _bert_tensors(source, network.config.num_attention_heads)
    encoder = network.base_model
    prefix = "" if encoder is network else f"{network.base_model_prefix}."
    # Parameters of the cross-modal layers and heads have no counterpart in a BERT.
    filled = set()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in tensors:
                parameter.copy_(tensors[name])
                filled.add(prefix + name)
        # Only VisualBertConfig has this field.
        if getattr(network.config, "special_visual_initialize", False):
            for name in ("token_type_embeddings", "position_embeddings"):
                token_embeddings = getattr(encoder.embeddings, name).weight
                getattr(encoder.embeddings, f"visual_{name}").weight.copy_(token_embeddings)
                filled.add(f"{prefix}embeddings.visual_{name}.weight")
    return network, frozenset(name for name, _ in network.named_parameters() if name not in filled)


def _bert_tensors(source: Start, num_heads: int) -> dict[str, Tensor]:
    """Return a BERT's tensors by their names in ``BertModel``; the pooler may be missing."""
    heads = {"num_attention_heads": num_heads}  # a file does not show their number
    with torch.device("meta"):
        expected = BertModel(_config(BertConfig, dict(source.config) | heads))
    parameters = dict(expected.named_parameters())
    tensors = rename(read_tensors(source.location), parameters, "", source.location)
    # A BERT for masked words alone has no pooler.
    missing = {name for name in set(parameters) - set(tensors) if not name.startswith("pooler.")}
    check_encoder(source.location, missing)
    check_shapes(source.location, tensors, parameters)
    return tensors


def _from_checkpoint(
    network_class: type[PreTrainedModel],
    source: Start,
    options: ModelSection,
    goal: Goal,
    fields: Fields,
    head_prefixes: Sequence[str],
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Load a checkpoint of the same architecture, and reinitialize the parameters that must differ.

    These are the heads and the projection of region vectors, if their shapes or labels differ.
    """
    config_class = network_class.config_class
    check_width(source, options, fields)
    settings = dict(source.config) | options.architecture | dict(fields)
    # LxmertConfig derives num_hidden_layers from l_layers; a saved value would override it.
    if "l_layers" in settings:
        settings.pop("num_hidden_layers", None)
    config = _config(config_class, settings)
    tensors = read_tensors(source.location)
    # A checkpoint of vlray must have exactly the tensors of the model, so it is not renamed.
    if source.info is None:
        names = _names(network_class, config)
        tensors = rename(tensors, names, f"{network_class.base_model_prefix}.", source.location)
    with quiet():
        network, loading = network_class.from_pretrained(
            None,
            state_dict=tensors,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    # transformers only reports mismatched shapes; the code below decides which are allowed.
    missing = set(loading["missing_keys"])
    mismatched = {name: shapes for name, *shapes in loading["mismatched_keys"]}
    if source.info is not None and _is_same_model(source.info, options, goal):
        check_complete(options.weights, missing, loading["unexpected_keys"], mismatched)
    may_differ = (*head_prefixes, *_projection_prefixes(network))
    for name, (saved_shape, model_shape) in sorted(mismatched.items()):
        if not name.startswith(may_differ):
            raise ValueError(
                f"model.weights={options.weights} has {name} of the shape {tuple(saved_shape)}, "
                f"but the model's is {tuple(model_shape)}; remove what differs from "
                "model.architecture"
            )
    check_encoder(source.location, missing_in_encoder(network, missing, source, options))
    # A tied parameter has two names, and transformers reports the second one as missing. Only the
    # first is in named_parameters(), so the intersection drops the second.
    new = (missing | set(mismatched)) & {name for name, _ in network.named_parameters()}
    # A head can have the right shape and still be trained on other labels.
    if goal.labels and source.labels not in (None, goal.labels):
        new |= _reinitialize(network, head_prefixes)
    return network, frozenset(new)


def _names(network_class: type[PreTrainedModel], config: PretrainedConfig) -> set[str]:
    """Return the names of a network's parameters, including every name of tied ones."""
    with torch.device("meta"):
        network = network_class(config)
    return {name for name, _ in network.named_parameters(remove_duplicate=False)}


def _is_same_model(info: CheckpointInfo, options: ModelSection, goal: Goal) -> bool:
    """Return whether a checkpoint has this goal and these options, so that all tensors must fit."""
    # These options affect where the parameters come from, not the model itself.
    ignored = {"name": "", "weights": "", "answers": ""}
    same = info.model.model_copy(update=ignored) == options.model_copy(update=ignored)
    return same and info.goal == goal


def _reinitialize(network: PreTrainedModel, head_prefixes: Sequence[str]) -> set[str]:
    """Reinitialize the heads that depend on the labels, and return their parameter names."""
    reinitialized = set()
    for name, module in network.named_modules():
        parameters = [f"{name}.{each}" for each, _ in module.named_parameters(recurse=False)]
        if not parameters or not parameters[0].startswith(tuple(head_prefixes)):
            continue
        # transformers initializes linear layers this way, but skips those that it has initialized.
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=network.config.initializer_range)
            nn.init.zeros_(module.bias)
        else:
            module.reset_parameters()
        reinitialized.update(parameters)
    return reinitialized


def _projection_prefixes(network: PreTrainedModel) -> tuple[str, ...]:
    """Return the name prefixes of the layers that project region vectors."""
    prefix = f"{network.base_model_prefix}."
    return (f"{prefix}encoder.visn_fc.visn_fc", f"{prefix}embeddings.visual_projection")


def _check_fields(
    config_class: type[PretrainedConfig], architecture: Fields, fields: Fields
) -> None:
    """Refuse fields of ``model.architecture`` that are unknown or conflict with the goal."""
    names = [field.name for field in dataclasses.fields(config_class)]
    if unknown := [name for name in architecture if name not in names]:
        close = {name: nearest(name, names) for name in unknown}
        hints = [f"{name} (did you mean {close[name]}?)" if close[name] else name for name in close]
        raise ValueError(
            f"model.architecture has {', '.join(hints)}, but {config_class.__name__} has no such "
            "field; write several fields as l_layers=2,x_layers=1 or "
            """'{"l_layers": 2, "x_layers": 1}'"""
        )
    for name, value in architecture.items():
        if name in fields and fields[name] != value:
            raise ValueError(
                f"model.architecture has {name}={value}, but the data require "
                f"{fields[name]}; remove it"
            )


def _config(config_class: type[PretrainedConfig], settings: Fields) -> PretrainedConfig:
    """Build a transformers configuration from a mapping of its fields."""
    try:
        return config_class.from_dict(dict(settings))
    except Exception as error:  # huggingface_hub's validation errors are not ValueErrors
        raise ValueError(f"model.architecture is not valid: {error}") from error
