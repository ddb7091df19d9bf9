"""The answer head of a trained LXMERT, for other answers: a row goes where its answer goes.

Shapes: L answers now, P answers before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LxmertForQuestionAnswering

from vlray.config.model import ModelSection
from vlray.models.protocol import Goal
from vlray.models.weights import Start, find, quiet
from vlray.tasks.labels import LabelSpace

log = logging.getLogger("vlray.models")

_NUMBERS = "one two three four five six seven eight nine ten".split()  # noqa: SIM905 - readable
_SAME = {word: str(number) for number, word in enumerate(_NUMBERS, start=1)} | {"grey": "gray"}


def load_answer_head(network: Any, options: ModelSection, goal: Goal) -> frozenset[str]:
    """Fill an LXMERT's answer head from that of ``model.weights``, which is of other answers.

    The last layer's rows are found by answer; an answer that the weights do not know gets zeros, as
    in LXMERT. The layers before are taken as they are. Nothing is done where the answers are the
    same, where none is known, or where nothing tells which answers the head of the weights is of.

    Args:
        network: Of transformers, with an ``answer_head``, or without.
        options: ``weights`` and ``answers``.
        goal: Its ``labels`` are the answers.

    Returns:
        Names of the parameters that were filled.

    Raises:
        ValueError: ``model.answers`` has not as many answers as the head of the weights.

    Source:
        airsplay/lxmert src/pretrain/qa_answer_table.py.
    """
    if not options.weights or not goal.labels or not hasattr(network, "answer_head"):
        return frozenset()
    start = find(options.weights)
    before = _answers_of(start, options)
    if not before or before == goal.labels:
        return frozenset()
    rows = rows_by_answer(before, goal.labels)
    found = sum(row >= 0 for row in rows)
    log.info(
        "%d of %d answers are among the %d of %s",
        found,
        len(rows),
        len(before),
        options.weights,
    )
    if not found:
        return frozenset()
    with quiet():
        trained, loading = LxmertForQuestionAnswering.from_pretrained(
            start.place, dtype=torch.float32, output_loading_info=True
        )
    if loading["missing_keys"]:  # a head of another kind: of pairs, or of vectors
        return frozenset()
    layers = network.answer_head.logit_fc
    state = trained.answer_head.logit_fc.state_dict()
    last = f"{len(layers) - 1}."
    layers.load_state_dict(
        {n: _taken(tensor, rows) if n.startswith(last) else tensor for n, tensor in state.items()}
    )
    return frozenset(f"answer_head.logit_fc.{name}" for name in state)


def rows_by_answer(before: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Give the place of each label among the answers before, as it is or as LXMERT writes it.

    -1: it is not among them.
    """
    places = {answer: place for place, answer in enumerate(before)}
    return [places.get(label, places.get(canonical(label), -1)) for label in labels]


def canonical(answer: str) -> str:
    """Write an answer as LXMERT's 9,500 are: lower case, no article, digits up to ten.

    Source:
        airsplay/lxmert src/pretrain/qa_answer_table.py, AnswerTable.
    """
    answer = answer.lower().removesuffix(".").strip()
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article).strip()
    return _SAME.get(answer, answer)


def _answers_of(start: Start, options: ModelSection) -> tuple[str, ...]:
    """Say which answers the head of some weights is of; empty: it has none, or nothing tells."""
    config = start.config
    if config.get("model_type") != "lxmert":
        return ()
    number = config.get("num_qa_labels", 0)
    if options.answers:
        names = LabelSpace.from_file(options.answers).names
        if len(names) != number:
            raise ValueError(
                f"model.answers={options.answers} has {len(names):,} answers, but the head of "
                f"{options.weights} is of {number:,}; give the file that it was trained with"
            )
        return names
    names = start.labels or ()
    return names if len(names) == number else ()


def _taken(tensor: Float[Tensor, "P ..."], rows: Sequence[int]) -> Float[Tensor, "L ..."]:
    chosen = torch.tensor(rows)
    taken = tensor[chosen.clamp(min=0)]
    taken[chosen < 0] = 0
    return taken
