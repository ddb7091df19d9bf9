"""Small batches for fine-tuning, as the loader gives them, and what takes their padding away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs, PhraseTargets
from vlray.models.protocol import Goal

DIM, LABELS = 8, ("no", "yes", "two", "red")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
LAYERS = {
    "lxmert": SIZES | {"l_layers": 1, "r_layers": 1, "x_layers": 2},
    "visualbert": SIZES | {"num_hidden_layers": 2},
}
GOALS = {
    "answers": Goal("labels", DIM, LABELS, soft=True),
    "exact answers": Goal("labels", DIM, LABELS),
    "classes": Goal("labels", DIM, LABELS, classes=True),
    "pairs": Goal("labels", DIM, LABELS, num_images=2, classes=True),
    "choices": Goal("choices", DIM),
    "phrases": Goal("phrases", DIM),
}


def section(name: str, weights: str = "", **options: Any) -> ModelSection:
    """Give the options of a tiny model; a checkpoint says its sizes itself."""
    return ModelSection(
        name=name, weights=weights, architecture={} if weights else LAYERS[name], **options
    )


def batch_for(goal: Goal, *, seed: int = 0, numbers: int = 4) -> ModelInputs:
    """Make a batch of three examples; the second has two tokens and a region less than the others.

    Args:
        goal: What it is for.
        seed: Of its numbers.
        numbers: Of a box; 0: the model wants no boxes.
    """
    draw = torch.Generator().manual_seed(seed)
    visual = (3, 2, 5) if goal.num_images == 2 else (3, 5)
    text = (3, 4, 7) if goal.objective == "choices" else (3, 7)
    attention_mask = torch.ones(text, dtype=torch.int64)
    attention_mask[1, ..., -2:] = 0
    visual_attention_mask = torch.ones(visual, dtype=torch.int64)
    visual_attention_mask[1, ..., -1:] = 0
    feats = torch.randn(*visual, DIM, generator=draw) * visual_attention_mask[..., None]
    boxes = torch.rand(*visual, numbers, generator=draw) * visual_attention_mask[..., None]
    batch = ModelInputs(
        example_ids=("a", "b", "c"),
        image_ids=(("x",) * goal.num_images,) * 3,
        input_ids=torch.randint(5, 60, text, generator=draw) * attention_mask,
        attention_mask=attention_mask,
        token_type_ids=torch.zeros(text, dtype=torch.int64),
        visual_feats=feats.half(),
        visual_pos=boxes if numbers else None,
        visual_attention_mask=visual_attention_mask,
    )
    if goal.objective == "phrases":
        targets = torch.zeros(3, 2, 5)
        targets[0, 0, 1] = targets[0, 1, 2] = 1
        targets[2, 0, 0] = targets[2, 0, 3] = 0.5  # no region is right for the other phrases
        mask = torch.tensor([[1, 1], [1, 0], [1, 1]])
        places = torch.tensor([[2, 5], [3, 0], [1, 6]])
        return replace(batch, phrases=PhraseTargets(places, mask, targets, ((), (), ())))
    if goal.objective == "choices":
        return replace(batch, label_ids=torch.tensor([2, 0, 3]))
    scores = torch.tensor([[0, 1, 0.3, 0], [0, 0, 0, 0], [0, 0, 0, 0.9]])
    return replace(batch, targets=scores, label_ids=torch.tensor([1, -100, 3]))


def of_one(batch: ModelInputs, row: int) -> ModelInputs:
    """Give one example as a batch without any padding."""
    tokens = int(batch.attention_mask[row].sum(-1).max())
    regions = int(batch.visual_attention_mask[row].sum(-1).max())
    values = {
        name: getattr(batch, name)[row : row + 1, ..., :tokens]
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    values["visual_feats"] = batch.visual_feats[row : row + 1, ..., :regions, :]
    if batch.visual_pos is not None:
        values["visual_pos"] = batch.visual_pos[row : row + 1, ..., :regions, :]
    values["visual_attention_mask"] = batch.visual_attention_mask[row : row + 1, ..., :regions]
    for name in ("targets", "label_ids"):
        if getattr(batch, name) is not None:
            values[name] = getattr(batch, name)[row : row + 1]
    phrases = batch.phrases
    if phrases is not None:
        phrases = PhraseTargets(
            phrases.positions[row : row + 1],
            phrases.mask[row : row + 1],
            phrases.targets[row : row + 1, :, :regions],
            phrases.spans[row : row + 1],
        )
    ids = {"example_ids": batch.example_ids[row : row + 1], "image_ids": batch.image_ids[row:][:1]}
    return replace(batch, phrases=phrases, **values, **ids)
