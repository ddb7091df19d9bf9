"""Random masking of words in fine-tuning.

Shapes: B: examples; C: choices per example; T: tokens per text, including padding.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from vlray.loader.inputs import ModelInputs
from vlray.loader.text import Tokenizer


def mask_words(batch: ModelInputs, rate: float, tokenizer: Tokenizer) -> ModelInputs:
    """Replace each token of the texts by [MASK] with probability ``rate``.

    [CLS], [SEP] and padding stay. The draws are those of torch's generator for the CPU, where the
    batch must be: so a seed masks the same words on every device.
    """
    if not rate:
        return batch
    ids = batch.input_ids
    is_drawn = torch.rand(ids.shape) < rate
    is_kept = (batch.attention_mask == 0) | torch.isin(
        ids, torch.tensor([tokenizer.id_of(name) for name in ("[CLS]", "[SEP]")])
    )
    masked = ids.masked_fill(is_drawn & ~is_kept, tokenizer.id_of("[MASK]"))
    return replace(batch, input_ids=masked.pin_memory() if ids.is_pinned() else masked)
