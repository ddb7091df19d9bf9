"""What a fine-tuning on few examples may do: mask words, learn a field of the examples as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models.batches import GOALS, batch_for
from vlray.config.train import TrainConfig
from vlray.engine.data import open_data
from vlray.engine.word_masking import mask_words
from vlray.loader.text import Tokenizer

Make = Callable[..., TrainConfig]


def test_only_words_are_masked_at_the_rate() -> None:
    tokenizer = Tokenizer()
    cls, sep, mask = (tokenizer.id_of(name) for name in ("[CLS]", "[SEP]", "[MASK]"))
    batch = batch_for(GOALS["answers"])
    ids = batch.input_ids
    ids[:] = torch.arange(1000, 1000 + ids.numel()).reshape(ids.shape)
    ids[:, 0], ids[:, 3] = cls, sep
    torch.manual_seed(0)
    masked = torch.stack([mask_words(batch, 0.25, tokenizer).input_ids for _ in range(400)])
    is_word = (batch.attention_mask == 1) & (ids != cls) & (ids != sep)
    shares = (masked == mask).float().mean(0)
    assert (shares[is_word] - 0.25).abs().max() < 0.08
    assert shares[~is_word].max() == 0
    assert ((masked == mask) | (masked == ids)).all()
    assert mask_words(batch, 0, tokenizer) is batch


def test_a_field_that_says_nothing_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="1 different values of it; their fields are answer_type,"):
        open_data(make(model={"auxiliary": "organ"}))  # all are of a head
