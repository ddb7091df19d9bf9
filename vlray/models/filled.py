"""Checks that weights fit and fill the encoder: the rest would silently stay random."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.foreign import KNOWN_PREFIXES
from vlray.models.weights import Start

_LAYER = re.compile(r"layers?\.\d+\.")


def module_names(names: Collection[str]) -> str:
    """List the modules that own these parameters, on one line and with at most six names."""
    modules = sorted({name.rpartition(".")[0] or name for name in names})
    return ", ".join(modules[:6]) + (f" and {len(modules) - 6} more" if len(modules) > 6 else "")


def missing_in_encoder(
    network: PreTrainedModel, missing: set[str], source: Start, options: ModelSection
) -> set[str]:
    """Return the missing parameters of the encoder, except for layers that the user added."""
    encoder = {name for name, _ in network.named_parameters()} & missing
    encoder = {name for name in encoder if name.startswith(f"{network.base_model_prefix}.")}
    # LxmertConfig's num_hidden_layers is a dictionary of the other three.
    counts = (
        ("l_layers", "x_layers", "r_layers") if source.kind == "lxmert" else ("num_hidden_layers",)
    )
    if any(options.architecture.get(name, 0) > source.config.get(name, 0) for name in counts):
        encoder = {name for name in encoder if not _LAYER.search(name)}
    return encoder


def check_encoder(weights: str, missing: set[str]) -> None:
    """Refuse weights that do not fill the encoder: the rest would silently stay random."""
    if missing:
        raise ValueError(
            f"model.weights={weights}: its file has no values for {len(missing)} tensors of the "
            f"encoder: {module_names(missing)}. vlray finds tensors by the names of transformers, "
            f"also behind prefixes of {KNOWN_PREFIXES}; rename them, or pass other weights"
        )


def check_shapes(
    weights: str, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> None:
    """Refuse tensors whose shapes are not those that the configuration of the weights implies."""
    for name, tensor in tensors.items():
        shape = tuple(parameters[name].shape)
        if tensor.shape != shape:
            raise ValueError(
                f"model.weights={weights} has {name} of the shape {tuple(tensor.shape)}, but its "
                f"config.json implies {shape}; its files do not belong together"
            )


def check_complete(
    weights: str, missing: set[str], unexpected: Collection[str], mismatched: Mapping[str, object]
) -> None:
    """Refuse a checkpoint if its tensors are not exactly those of the model."""
    for problem, names in (
        ("lacks", missing),
        ("has tensors that the model lacks:", unexpected),
        ("has other shapes of", mismatched),
    ):
        if names:
            raise ValueError(
                f"the checkpoint {weights} {problem} {module_names(names)}; its files "
                "were changed, or are not all from the same run"
            )


def check_heads(source: Start, options: ModelSection) -> None:
    """Refuse a file if the number of attention heads is unknown: its tensors fit any number."""
    known = {**source.config, **options.architecture}
    if Path(source.location).is_file() and "num_attention_heads" not in known:
        raise ValueError(
            f"the tensors in {source.location}, of hidden size {source.config['hidden_size']}, do "
            "not show the number of attention heads; pass it: "
            "--model.architecture num_attention_heads=N"
        )


def check_width(source: Start, options: ModelSection, fields: Mapping[str, object]) -> None:
    """Refuse weights that were trained on region vectors of a different length.

    They are accepted if ``model.architecture`` sets the vector length; the projection is then
    initialized at random.
    """
    for name in ("visual_feat_dim", "visual_embedding_dim"):
        saved_dim = source.config.get(name)
        if name not in fields or saved_dim in (None, fields[name]) or name in options.architecture:
            continue
        raise ValueError(
            f"model.weights={options.weights} was trained on region vectors of length {saved_dim}, "
            f"but these have {fields[name]}; pass regions of the same detector, or start with a "
            f"new projection: model.architecture.{name}={fields[name]}"
        )
