"""Initialization of an answer head with the model's own text encodings of the answers.

Shapes: N: labels in a batch; T: tokens; H: hidden size.
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
from vlray.models.network import pooling_weights, weighted_sum
from vlray.models.protocol import Goal
from vlray.models.vocabulary import check_vocabulary, tokenizer_of

MAX_TOKENS = 20
BATCH = 256


def starts_from_text(options: ModelSection, goal: Goal) -> bool:
    """Return whether the answer head is initialized with text vectors of the answers.

    Raises:
        ValueError: The goal is not to predict labels of one image, or there are no pretrained
            weights.
    """
    if options.answer_start == "random":
        return False
    if goal.objective != "labels" or goal.num_images != 1:
        raise ValueError(
            "model.answer_start=text is for labels of one image, but this is objective="
            f"{goal.objective} with {goal.num_images} images; remove it"
        )
    if not options.weights:
        raise ValueError(
            "model.answer_start=text needs a pretrained text encoder; pass model.weights "
            "(minilm, bert-base-uncased, a checkpoint)"
        )
    return True


@torch.no_grad()
def fill_from_text(head: Any, base: Any, labels: Sequence[str], weights: str) -> None:
    """Fill the last layer of an answer head with text vectors of the labels.

    A label's vector is the mean of its token states, scaled to length 1. The mean vector over all
    labels is then subtracted from each.

    Args:
        head: Head from `vlray.models.heads.embedding_head`.
        base: LxmertModel or VisualBertModel from transformers.
        labels: Texts of the answers.
        weights: ``model.weights``, whose tokenizer encodes the answers.

    Raises:
        ValueError: The vocabulary does not have the size of the model's.
    """
    path = tokenizer_of(weights)
    tokenizer = Tokenizer(path, max_tokens=MAX_TOKENS)
    rows = base.get_input_embeddings().num_embeddings
    check_vocabulary(path, tokenizer.vocabulary_size, weights, rows)
    # Dropout would make the vectors random.
    was_training = base.training
    base.eval()
    vectors = []
    for start in range(0, len(labels), BATCH):
        tokens = tokenizer(labels[start : start + BATCH])
        mask = torch.from_numpy(tokens.attention_mask)
        states = _text_states(base, torch.from_numpy(tokens.input_ids), mask)
        vectors.append(
            functional.normalize(weighted_sum(pooling_weights("mean", mask), states), dim=1)
        )
    base.train(was_training)
    text_vectors = torch.cat(vectors)
    last = head[-1]
    # Text vectors have a large component in common; without it, the answers differ more.
    last.weight.copy_(text_vectors - text_vectors.mean(0))
    last.bias.zero_()


def _text_states(
    base: Any, input_ids: Int64[Tensor, "N T"], attention_mask: Int64[Tensor, "N T"]
) -> Float[Tensor, "N T H"]:
    """Return the last hidden states of the model's text layers, computed without an image.

    LxmertModel requires regions, so its text layers are called one by one.
    """
    states: Tensor
    if base.config.model_type != "lxmert":
        states = base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states
    # All token types are 0, as for a single text.
    states = base.embeddings(input_ids, torch.zeros_like(input_ids))
    # The bias is added to the attention logits: 0 for tokens, the lowest float for padding.
    bias = (1 - attention_mask[:, None, None].float()) * torch.finfo(torch.float32).min
    for layer in base.encoder.layer:
        states = layer(states, bias)[0]
    return states
