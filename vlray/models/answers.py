"""Transfer of a trained LXMERT answer head to a different list of answers, row by row.

Shapes: L: labels of the goal; P: labels of the trained head.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from vlray.config.model import ModelSection
from vlray.models.foreign import rename
from vlray.models.protocol import Goal
from vlray.models.tensors import read_tensors
from vlray.models.weights import Start, find
from vlray.tasks.answers import canonical
from vlray.tasks.labels import LabelSpace

log = logging.getLogger("vlray.models")

_LAYERS = "answer_head.logit_fc."


def load_answer_head(network: PreTrainedModel, options: ModelSection, goal: Goal) -> frozenset[str]:
    """Fill an LXMERT answer head from ``model.weights`` that were trained on other answers.

    Each row of the last layer is copied from the trained row for the same answer. The row of an
    answer that the trained head does not have is set to zeros, as in LXMERT. The earlier layers of
    the head are copied unchanged.

    Nothing is copied if both heads have the same list of answers or no answer in common, if the
    answers of the trained head are unknown, or if the layers of the two heads differ.

    Args:
        network: A transformers network, with or without an ``answer_head``.
        options: Uses ``weights`` and ``answers``.
        goal: Learning goal; ``labels`` are the answers of the new head.

    Returns:
        Names of the parameters that were filled.

    Raises:
        ValueError: The number of answers in ``model.answers`` differs from that of the trained
            head.

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
        "%d of the %d answers start from their classifier rows in %s, which has %d answers",
        shared,
        len(rows),
        options.weights,
        len(trained_labels),
    )
    if not shared:
        return frozenset()
    # Only the last layer depends on the list of answers.
    layers = network.answer_head.logit_fc
    names = [f"{_LAYERS}{name}" for name in layers.state_dict()]
    state = rename(read_tensors(source.location), names, "", source.location)
    # The trained head has a different structure: for image pairs, or with one vector per answer.
    if len(state) < len(names):
        return frozenset()
    last = f"{_LAYERS}{len(layers) - 1}."
    if len(state[f"{last}weight"]) != len(trained_labels):
        raise ValueError(
            f"the answer head in {options.weights} has {len(state[f'{last}weight']):,} rows, but "
            f"its configuration lists {len(trained_labels):,} answers; its files do not belong "
            "together"
        )
    layers.load_state_dict(
        {
            n.removeprefix(_LAYERS): _select_rows(tensor, rows) if n.startswith(last) else tensor
            for n, tensor in state.items()
        }
    )
    return frozenset(names)


def rows_by_answer(trained_labels: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the row of each label in the trained head, or -1 if the head does not have the label.

    A label matches either unchanged or in LXMERT's spelling (see `canonical`).
    """
    rows = {answer: row for row, answer in enumerate(trained_labels)}
    return [rows.get(label, rows.get(canonical(label), -1)) for label in labels]


def _head_answers(source: Start, options: ModelSection) -> tuple[str, ...]:
    """Return the answers of the trained head, or an empty tuple if there are none or unknown."""
    config = source.config
    if config.get("model_type") != "lxmert":
        return ()
    count = config.get("num_qa_labels", 0)
    if options.answers:
        names = LabelSpace.from_file(options.answers).names
        if len(names) != count:
            raise ValueError(
                f"model.answers={options.answers} has {len(names):,} answers, but the head of "
                f"{options.weights} has {count:,}; pass the file that it was trained with"
            )
        return names
    # If the counts differ, the saved labels are not those of this head.
    names = source.labels or ()
    return names if len(names) == count else ()


def _select_rows(tensor: Float[Tensor, "P ..."], rows: Sequence[int]) -> Float[Tensor, "L ..."]:
    """Select rows of a tensor, with zeros for row -1."""
    indices = torch.tensor(rows)
    # -1 would select the last row, so any valid row is selected and then zeroed.
    selected = tensor[indices.clamp(min=0)]
    selected[indices < 0] = 0
    return selected
