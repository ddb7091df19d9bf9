"""Transfer of a trained LXMERT answer head to another list of answers, row by row.

Shapes: L labels of the goal, P labels of the trained head.
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
_SYNONYMS = {word: str(number) for number, word in enumerate(_NUMBERS, start=1)} | {"grey": "gray"}


def load_answer_head(network: Any, options: ModelSection, goal: Goal) -> frozenset[str]:
    """Fill the answer head of an LXMERT from that of ``model.weights``, trained for other answers.

    Each row of the last layer is copied from the row of the same answer; an answer that the trained
    head lacks gets zeros, as in LXMERT. The layers before it are copied unchanged. Nothing is
    copied if the answers are equal, if they have none in common, or if the answers of the trained
    head are unknown.

    Args:
        network: A network of transformers, with or without an ``answer_head``.
        options: ``weights`` and ``answers``.
        goal: Its ``labels`` are the answers.

    Returns:
        Names of the parameters that were filled.

    Raises:
        ValueError: ``model.answers`` does not have as many answers as the head of the weights.

    Source:
        airsplay/lxmert src/pretrain/qa_answer_table.py.
    """
    if not options.weights or not goal.labels or not hasattr(network, "answer_head"):
        return frozenset()
    source = find(options.weights)
    trained_labels = _head_answers(source, options)
    if not trained_labels or trained_labels == goal.labels:
        return frozenset()
    rows = rows_by_answer(trained_labels, goal.labels)
    shared = sum(row >= 0 for row in rows)
    log.info(
        "copied the rows of %d of %d answers from the %d of %s",
        shared,
        len(rows),
        len(trained_labels),
        options.weights,
    )
    if not shared:
        return frozenset()
    with quiet():
        trained, loading = LxmertForQuestionAnswering.from_pretrained(
            source.location, dtype=torch.float32, output_loading_info=True
        )
    # The head has another structure: for image pairs, or with a vector for each answer.
    if loading["missing_keys"]:
        return frozenset()
    # Only the last layer depends on the list of answers.
    layers = network.answer_head.logit_fc
    state = trained.answer_head.logit_fc.state_dict()
    last = f"{len(layers) - 1}."
    layers.load_state_dict(
        {
            n: _select_rows(tensor, rows) if n.startswith(last) else tensor
            for n, tensor in state.items()
        }
    )
    return frozenset(f"answer_head.logit_fc.{name}" for name in state)


def rows_by_answer(trained_labels: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the row of each label in the trained head; -1 if the head lacks it.

    A label matches as it is, or in the spelling of LXMERT (`canonical`).
    """
    rows = {answer: row for row, answer in enumerate(trained_labels)}
    return [rows.get(label, rows.get(canonical(label), -1)) for label in labels]


def canonical(answer: str) -> str:
    """Spell an answer as in LXMERT's list of 9,500: lower case, no article, digits up to ten.

    Source:
        airsplay/lxmert src/pretrain/qa_answer_table.py, AnswerTable.
    """
    answer = answer.lower().removesuffix(".").strip()
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article).strip()
    return _SYNONYMS.get(answer, answer)


def _head_answers(source: Start, options: ModelSection) -> tuple[str, ...]:
    """Return the answers of the trained head; empty if it has none or they are unknown."""
    config = source.config
    if config.get("model_type") != "lxmert":
        return ()
    count = config.get("num_qa_labels", 0)
    if options.answers:
        names = LabelSpace.from_file(options.answers).names
        if len(names) != count:
            raise ValueError(
                f"model.answers={options.answers} has {len(names):,} answers, but the head of "
                f"{options.weights} has {count:,}; give the file that it was trained with"
            )
        return names
    names = source.labels or ()
    return names if len(names) == count else ()


def _select_rows(tensor: Float[Tensor, "P ..."], rows: Sequence[int]) -> Float[Tensor, "L ..."]:
    """Select rows of a tensor; row -1 becomes zeros."""
    indices = torch.tensor(rows)
    # Row -1 is not an index: select any row, then zero it.
    selected = tensor[indices.clamp(min=0)]
    selected[indices < 0] = 0
    return selected
