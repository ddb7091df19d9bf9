"""Small batches of random numbers, as the loader gives them."""

from __future__ import annotations

from dataclasses import replace

import torch

from vlray.loader.inputs import ModelInputs, PretrainingTargets

DIM, OBJECTS, ATTRIBUTES, ANSWERS = 6, 5, 4, ("no", "yes", "2")
SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def pretraining_batch(
    seed: int = 0, *, size: int = 4, tokens: int = 7, regions: int = 5
) -> ModelInputs:
    """Make a batch without padding, of which a third is masked."""
    draw = torch.Generator().manual_seed(seed)
    feats = torch.rand(size, regions, DIM, generator=draw)
    masked = torch.rand(size, regions, generator=draw) < 0.3
    labels = torch.randint(5, SMALL["vocab_size"], (size, tokens), generator=draw)
    hidden = torch.rand(size, tokens, generator=draw) < 0.3
    targets = PretrainingTargets(
        mlm_labels=torch.where(hidden, labels, -100),
        is_matched=torch.arange(size) % 2,
        feat_mask=masked.float(),
        feat_targets=feats.half(),
        obj_labels=torch.randint(OBJECTS, (size, regions), generator=draw),
        obj_weights=torch.rand(size, regions, generator=draw),
        attr_labels=torch.randint(ATTRIBUTES, (size, regions), generator=draw),
        attr_weights=torch.rand(size, regions, generator=draw),
        answer_labels=torch.where(torch.arange(size) % 2 == 1, 1, -100),
    )
    ones = torch.ones(size, tokens, dtype=torch.int64)
    return ModelInputs(
        example_ids=tuple(map(str, range(size))),
        image_ids=tuple((str(number),) for number in range(size)),
        input_ids=torch.where(hidden, 4, labels),
        attention_mask=ones,
        token_type_ids=torch.zeros_like(ones),
        visual_feats=torch.where(masked[..., None], 0, feats).half(),
        visual_pos=torch.rand(size, regions, 4, generator=draw),
        visual_attention_mask=torch.ones(size, regions, dtype=torch.int64),
        pretraining=targets,
    )


def padded(batch: ModelInputs, number: int = 3) -> ModelInputs:
    """Put padding behind the tokens and the regions."""

    def more(tensor: torch.Tensor, value: float = 0) -> torch.Tensor:
        wide = torch.full((tensor.shape[0], number, *tensor.shape[2:]), value, dtype=tensor.dtype)
        return torch.cat([tensor, wide], dim=1)

    targets = batch.pretraining
    assert targets is not None
    names = ("feat_mask", "feat_targets", "obj_weights", "attr_weights")
    labels = ("mlm_labels", "obj_labels", "attr_labels")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    visual = ("visual_feats", "visual_pos", "visual_attention_mask")
    return replace(
        batch,
        **{name: more(getattr(batch, name)) for name in inputs + visual},
        pretraining=replace(
            targets,
            **{name: more(getattr(targets, name)) for name in names},
            **{name: more(getattr(targets, name), -100) for name in labels},
        ),
    )
