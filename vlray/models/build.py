"""Builds a network of transformers, and fills it from what there is: a checkpoint or a BERT."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertModel, PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.protocol import Goal
from vlray.models.weights import Start, find, quiet
from vlray.settings.options import nearest

log = logging.getLogger("vlray.models")

BERT_FIELDS = (
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""Fields of a configuration that have to be a BERT's own for its tensors to fit."""


def load_network(
    network_class: Any,
    options: ModelSection,
    goal: Goal,
    fields: Mapping[str, Any],
    ends: Sequence[str],
) -> tuple[Any, frozenset[str]]:
    """Build a network of transformers, and fill it from ``model.weights``.

    Its configuration is ``model.architecture``, else that of the weights, else the class's own.

    Args:
        network_class: The class, such as ``LxmertForQuestionAnswering``.
        options: Weights and architecture.
        goal: What the network is for. A checkpoint of the same goal and options has to fit to the
            last tensor.
        fields: Of its configuration, that the goal says.
        ends: Beginnings of the parameters' names that belong to the labels. They start anew where
            the weights are of other labels.

    Returns:
        The network, and the names of the parameters that the weights did not fill.

    Raises:
        ValueError: The weights do not fit, or there is no such field.
    """
    config_class = network_class.config_class
    _check_fields(config_class, options.architecture, fields)
    if not options.weights:
        network = network_class(_config(config_class, options.architecture | dict(fields)))
        return network, frozenset(name for name, _ in network.named_parameters())
    start = find(options.weights)
    if start.kind == "bert":
        network, new = _from_bert(network_class, start, options.architecture | dict(fields))
    elif start.kind == config_class.model_type:
        network, new = _from_checkpoint(network_class, start, options, goal, fields, ends)
    else:
        raise ValueError(
            f"model.weights={options.weights} is of the kind {start.kind!r}, but "
            f"model.name={options.name} starts from {config_class.model_type!r}, or from the text "
            "side of a 'bert'; give the --model.name that these weights are of, or other weights"
        )
    total = sum(1 for _ in network.parameters())
    log.info(
        "%d of %d tensors are from %s; new are %s",
        total - len(new),
        total,
        options.weights,
        summary(new) or "none",
    )
    return network, frozenset(new)


def names_of(labels: Sequence[str]) -> dict[str, Any]:
    """Give the fields of a configuration that say what the scores are of."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def save_network(network: Any, folder: Path) -> None:
    """Write a network for transformers' ``from_pretrained``."""
    with quiet():
        network.save_pretrained(folder)


def summary(names: Sequence[str] | frozenset[str]) -> str:
    """Name the modules of some parameters, a few of them."""
    modules = sorted({name.rpartition(".")[0] or name for name in names})
    return ", ".join(modules[:6]) + (f" and {len(modules) - 6} more" if len(modules) > 6 else "")


def _from_bert(
    network_class: Any, start: Start, given: dict[str, Any]
) -> tuple[Any, frozenset[str]]:
    """Take the text side of a BERT: embeddings, layers and pooler, by their names.

    Of more layers than the network has, the first are taken. VisualBERT's embeddings of places
    and kinds of regions start as those of tokens, as in uclanlp/visualbert.
    """
    config_class = network_class.config_class
    names = {field.name for field in dataclasses.fields(config_class)}
    own = {name: start.config[name] for name in BERT_FIELDS if name in start.config}
    for name, value in own.items():
        if given.get(name, value) != value:
            raise ValueError(
                f"model.architecture has {name}={given[name]}, but the BERT of model.weights has "
                f"{value}; leave it out, or start from other weights"
            )
    layers = "l_layers" if "l_layers" in names else "num_hidden_layers"
    own[layers] = start.config["num_hidden_layers"]
    for name in ("layer_norm_eps", "pad_token_id"):
        if name in names and name in start.config:
            own[name] = start.config[name]
    network = network_class(_config(config_class, own | given))
    with quiet():
        tensors = BertModel.from_pretrained(start.place, dtype=torch.float32).state_dict()
    base = network.base_model
    prefix = "" if base is network else f"{network.base_model_prefix}."
    filled = set()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name in tensors:
                parameter.copy_(tensors[name])
                filled.add(prefix + name)
        if getattr(network.config, "special_visual_initialize", False):
            for name in ("token_type_embeddings", "position_embeddings"):
                of_tokens = getattr(base.embeddings, name).weight
                getattr(base.embeddings, f"visual_{name}").weight.copy_(of_tokens)
                filled.add(f"{prefix}embeddings.visual_{name}.weight")
    return network, frozenset(name for name, _ in network.named_parameters() if name not in filled)


def _from_checkpoint(
    network_class: Any,
    start: Start,
    options: ModelSection,
    goal: Goal,
    fields: Mapping[str, Any],
    ends: Sequence[str],
) -> tuple[Any, frozenset[str]]:
    config_class = network_class.config_class
    _check_width(config_class, start, options, fields)
    settings = dict(start.config) | options.architecture | dict(fields)
    if "l_layers" in settings:  # LXMERT derives it, but would keep what it was before
        settings.pop("num_hidden_layers", None)
    with quiet():
        network, loading = network_class.from_pretrained(
            start.place,
            config=_config(config_class, settings),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    missing = set(loading["missing_keys"])
    mismatched = {name: shapes for name, *shapes in loading["mismatched_keys"]}
    if start.info is not None and _is_whole(start.info, options, goal):
        _refuse_any(options.weights, missing, loading["unexpected_keys"], mismatched)
    free = (*ends, *_visual_ends(network))
    for name, (found, wanted) in sorted(mismatched.items()):
        if not name.startswith(free):
            raise ValueError(
                f"model.weights={options.weights} has {name} of the shape {tuple(found)}, but the "
                f"model's is {tuple(wanted)}; take what differs out of model.architecture"
            )
    # Tied parameters, which have two names, are missing by the one that is not asked for.
    new = (missing | set(mismatched)) & {name for name, _ in network.named_parameters()}
    if goal.labels and start.labels not in (None, goal.labels):
        new |= _start_anew(network, ends)
    return network, frozenset(new)


def _is_whole(info: CheckpointInfo, options: ModelSection, goal: Goal) -> bool:
    """Say whether a checkpoint is of this very model, so that all of it has to fit."""
    where = {"name": "", "weights": "", "answers": ""}
    same = info.model.model_copy(update=where) == options.model_copy(update=where)
    return same and info.goal == goal


def _start_anew(network: PreTrainedModel, ends: Sequence[str]) -> set[str]:
    """Draw the parameters of the labels again: what is in them means other labels."""
    names = set()
    for name, module in network.named_modules():
        own = [f"{name}.{each}" for each, _ in module.named_parameters(recurse=False)]
        if not own or not own[0].startswith(tuple(ends)):
            continue
        if isinstance(module, nn.Linear):  # as transformers, which draws nothing twice itself
            nn.init.normal_(module.weight, std=network.config.initializer_range)
            nn.init.zeros_(module.bias)
        else:
            module.reset_parameters()
        names.update(own)
    return names


def _visual_ends(network: PreTrainedModel) -> tuple[str, ...]:
    """Name the parameters that a region's vector goes through first."""
    prefix = f"{network.base_model_prefix}."
    return (f"{prefix}encoder.visn_fc.visn_fc", f"{prefix}embeddings.visual_projection")


def _check_width(
    config_class: Any, start: Start, options: ModelSection, fields: Mapping[str, Any]
) -> None:
    """Refuse regions of another width, unless the architecture says that this is meant."""
    for name in ("visual_feat_dim", "visual_embedding_dim"):
        found = start.config.get(name)
        if name not in fields or found in (None, fields[name]) or name in options.architecture:
            continue
        raise ValueError(
            f"model.weights={options.weights} was trained on regions of {found} numbers each, but "
            f"these have {fields[name]}; give regions of the same detector, or begin with a new "
            f"projection of them: model.architecture.{name}={fields[name]}"
        )


def _refuse_any(
    weights: str, missing: set[str], unexpected: Sequence[str], mismatched: Mapping[str, Any]
) -> None:
    for what, names in (
        ("lacks", missing),
        ("has what the model does not:", unexpected),
        ("has another shape of", mismatched),
    ):
        if names:
            raise ValueError(
                f"the checkpoint {weights} {what} {summary(frozenset(names))}; its files are not "
                "of one training, or were changed"
            )


def _check_fields(
    config_class: Any, architecture: Mapping[str, Any], fields: Mapping[str, Any]
) -> None:
    names = [field.name for field in dataclasses.fields(config_class)]
    if unknown := [name for name in architecture if name not in names]:
        close = {name: nearest(name, names) for name in unknown}
        said = [f"{name} (did you mean {close[name]}?)" if close[name] else name for name in close]
        raise ValueError(
            f"model.architecture has {', '.join(said)}, which {config_class.__name__} has no field "
            "of; several fields are written l_layers=2,x_layers=1 or "
            """'{"l_layers": 2, "x_layers": 1}'"""
        )
    for name, value in architecture.items():
        if name in fields and fields[name] != value:
            raise ValueError(
                f"model.architecture has {name}={value}, but the data say {fields[name]}; "
                "leave it out"
            )


def _config(config_class: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return config_class.from_dict(dict(settings))
    except Exception as error:  # the library's own class of errors, which is not ValueError
        raise ValueError(f"model.architecture is not usable: {error}") from error
