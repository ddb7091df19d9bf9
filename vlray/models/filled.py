"""Checks that weights fill the encoder: what they do not fill would silently stay random."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.weights import Start

_LAYER = re.compile(r"layers?\.\d+\.")


def module_names(names: Sequence[str] | frozenset[str]) -> str:
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
            f"encoder: {module_names(frozenset(missing))}; its tensors may have other names, "
            "such as a prefix module.; give them the names of transformers' models"
        )
