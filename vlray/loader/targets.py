"""Targets of a batch: soft scores and label ids of its examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlray.loader.pretraining import IGNORED
from vlray.tasks.answers import SoftScore
from vlray.tasks.example import Choices, Example
from vlray.tasks.labels import LabelSpace, targets


def soft_targets(
    examples: Sequence[Example], space: LabelSpace, soft_scores: SoftScore | Sequence[SoftScore]
) -> np.ndarray:
    """Build the targets; examples from different datasets can have different soft-score rules."""
    if isinstance(soft_scores, str):
        return targets(examples, space, soft_scores)
    scores = np.zeros((len(examples), len(space)), np.float32)
    for rule in sorted(set(soft_scores)):
        indices = [number for number, own_rule in enumerate(soft_scores) if own_rule == rule]
        scores[indices] = targets([examples[number] for number in indices], space, rule)
    return scores


def label_ids_of(examples: Sequence[Example], goals: np.ndarray | None) -> np.ndarray | None:
    """Return the correct choice or the label with the highest score, or -100 if there is none."""
    if any(isinstance(example.label, Choices) for example in examples):
        correct = [e.label.correct if isinstance(e.label, Choices) else -1 for e in examples]
        return np.array([number if number >= 0 else IGNORED for number in correct], np.int64)
    if goals is None or not goals.shape[1]:
        return None
    # If no answer is in the label space, all scores are 0, and argmax would return label 0.
    return np.where(goals.max(axis=1) > 0, goals.argmax(axis=1), IGNORED)
