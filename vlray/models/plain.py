"""What plain transformers can express of a checkpoint, and the nearest model that it can.

Shapes: D: features per region vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.protocol import Goal
from vlray.models.standardize import MAX_DEVIATIONS, Standardize


def left_out(options: ModelSection, goal: Goal) -> list[str]:
    """Name the parts of a built-in model's scores that transformers has no class for."""
    parts = []
    if options.pooling == "mean":
        parts.append("the mean over the text's tokens, from which the scores are read (pooling)")
    if options.answer_start == "text":
        parts.append("the answer head with a vector for each answer (answer_start)")
    if options.name == "lxmert" and goal.objective == "labels" and goal.num_images == 2:
        parts.append("the head over pairs of images")
    if options.name == "lxmert" and goal.objective == "phrases":
        parts.append("the head over phrases")
    return parts


def notes(options: ModelSection, goal: Goal) -> list[str]:
    """Return what code that loads a checkpoint with transformers must know, one sentence each."""
    sentences = []
    if parts := left_out(options, goal):
        sentences.append(f"Plain transformers does not have {' and '.join(parts)}.")
    if options.standardize:
        sentences.append("Region vectors are standardized with standardize.safetensors first.")
    if options.box_feats:
        sentences.append(
            "Behind each region vector are x1, y1, x2, y2 and the area of its box, from 0 to 1."
        )
    if options.name == "visualbert":
        sentences.append(
            "visual_token_type_ids are 0 for the regions of the first image, 1 for the second's."
        )
    return sentences


def card(info: CheckpointInfo, sentences: Sequence[str], network_class: str) -> str:
    """Return the README of a folder with a model."""
    goal = info.goal
    facts = {
        "class": network_class,
        "objective": goal.objective,
        "region vectors": f"{goal.feature_dim} numbers",
        "boxes": info.loader.boxes,
        "text": f"{info.loader.template}, at most {info.loader.max_tokens} tokens",
        "trained on": info.corpus,
        "steps": f"{info.step:,}",
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in info.metrics.items()),
        "vlray": info.vlray_version,
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value]
    title = f"# {info.model.name.rpartition(':')[2]} on {info.corpus}"
    return "\n".join([title, "", *sentences, "", "| | |", "|---|---|", *rows, ""])


@torch.no_grad()
def plain_network(model: Any, info: CheckpointInfo) -> tuple[PreTrainedModel, list[str]]:
    """Return the nearest network of plain transformers, and what differs, one sentence each.

    The standardization of region vectors is folded into their projection, except for its limit of
    6 deviations. If transformers has no class for the head, the encoder alone is returned.

    Args:
        model: A built-in model; its network is changed.
        info: Description of its checkpoint.
    """
    options, goal = info.model, info.goal
    network: PreTrainedModel = model.network
    sentences = []
    if model.standardize is not None:
        _fold(model.standardize, _projection_of(network))
        sentences.append(
            "The standardization of region vectors is a part of the weights, but for its limit of "
            f"{MAX_DEVIATIONS} standard deviations."
        )
    if parts := left_out(options, goal):
        sentences.append(f"Left out, as transformers does not have it: {' and '.join(parts)}.")
        network = network.base_model
    folded = options.model_copy(update={"standardize": False, "pooling": "model"})
    return network, sentences + notes(folded.model_copy(update={"answer_start": "random"}), goal)


def _projection_of(network: PreTrainedModel) -> nn.Linear:
    """Return the layer that reads the region vectors."""
    base: Any = network.base_model
    is_lxmert = base.config.model_type == "lxmert"
    layer: nn.Linear = (
        base.encoder.visn_fc.visn_fc if is_lxmert else (base.embeddings.visual_projection)
    )
    return layer


def _fold(standardize: Standardize, layer: nn.Linear) -> None:
    """Let a layer read vectors as they are: W ((x - m) / s) + b = (W / s) x + (b - (W / s) m)."""
    length = len(standardize.mean)  # box values may follow
    scaled = layer.weight[:, :length] / standardize.deviation
    layer.bias.sub_(scaled @ standardize.mean)
    layer.weight[:, :length] = scaled
