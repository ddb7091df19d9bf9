"""Vectors of answers, as the text side of a model makes them: what an answer head starts from.

Shapes: L labels, N of them at once, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from vlray.config.model import ModelSection
from vlray.loader.text import Tokenizer
from vlray.models.network import read, reading
from vlray.models.protocol import Goal

MAX_TOKENS = 20
BATCH = 256


def starts_from_text(options: ModelSection, goal: Goal) -> bool:
    """Say whether the answer head starts from the answers' words.

    Raises:
        ValueError: There are no answers of one image, or no weights that know words.
    """
    if options.answer_start == "random":
        return False
    if goal.objective != "labels" or goal.num_images != 1:
        raise ValueError(
            "model.answer_start=text is for labels of one image, but this is objective="
            f"{goal.objective} of {goal.num_images}; leave it out"
        )
    if not options.weights:
        raise ValueError(
            "model.answer_start=text wants a text side that knows words; give model.weights "
            "(minilm, bert-base-uncased, a checkpoint)"
        )
    return True


@torch.no_grad()
def fill_from_text(head: Any, base: Any, labels: Sequence[str]) -> None:
    """Fill the last layer of a head with the vectors of the labels.

    Each is the mean of the states of its tokens, of length 1, less the mean of all labels.

    Args:
        head: Of `vlray.models.heads.head_of_vectors`.
        base: LxmertModel or VisualBertModel of transformers.
        labels: Texts.

    Raises:
        ValueError: The model's vocabulary is not that of bert-base-uncased.
    """
    tokenizer = Tokenizer(max_tokens=MAX_TOKENS)
    size = base.get_input_embeddings().num_embeddings
    if size != tokenizer.vocabulary_size:
        raise ValueError(
            f"model.answer_start=text reads answers with the {tokenizer.vocabulary_size:,} word "
            f"pieces of bert-base-uncased, but the weights know {size:,}; leave it out"
        )
    was_training = base.training
    base.eval()
    vectors = []
    for start in range(0, len(labels), BATCH):
        tokens = tokenizer(labels[start : start + BATCH])
        mask = torch.from_numpy(tokens.attention_mask)
        states = _text_states(base, torch.from_numpy(tokens.input_ids), mask)
        vectors.append(functional.normalize(read(reading("mean", mask), states), dim=1))
    base.train(was_training)
    every = torch.cat(vectors)
    last = head[-1]
    last.weight.copy_(every - every.mean(0))
    last.bias.zero_()


def _text_states(
    base: Any, input_ids: Int64[Tensor, "N T"], attention_mask: Int64[Tensor, "N T"]
) -> Float[Tensor, "N T H"]:
    """Run the layers that a text goes through before, or without, an image."""
    states: Tensor
    if base.config.model_type != "lxmert":
        states = base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states
    states = base.embeddings(input_ids, torch.zeros_like(input_ids))
    hidden = (1 - attention_mask[:, None, None].float()) * torch.finfo(torch.float32).min
    for layer in base.encoder.layer:
        states = layer(states, hidden)[0]
    return states
