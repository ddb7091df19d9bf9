"""GQA's metrics: accuracy, consistency, validity, plausibility, distribution.

Only questions in the balanced set are scored; consistency also needs the other questions. The
metrics read ``structural``, ``semantic``, ``detailed``, ``balanced``, ``group`` and ``entailed``
from an example's ``about``.

Source: ``eval.py`` in the dataset's download (gqadataset.org).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from vlray.tasks.example import Answers, Example
from vlray.tasks.predictions import Predictions

AnswerChoices = Mapping[str, Mapping[str, Sequence[str]]]
"""Content of the choices file: ``{id: {"valid": [...], "plausible": [...]}}``."""

COMMON = ("color", "material", "shape")
"""Valid answers to "what do they have in common?", regardless of the choices file."""


def is_balanced(example: Example) -> bool:
    """Return whether a question is in the balanced set; only those questions are scored."""
    return example.about.get("balanced", "true").lower() == "true"


def types_of(example: Example) -> dict[str, str]:
    """Return a question's groups: its types, number of reasoning steps and number of words."""
    types = {
        kind: example.about[kind]
        for kind in ("structural", "semantic", "steps")
        if kind in example.about
    }
    return {**types, "words": str(len(example.text.split()))}


def metric_samples(
    examples: Sequence[Example],
    scores: Mapping[str, float],
    predictions: Predictions,
    choices: AnswerChoices | None,
) -> dict[str, Sequence[float]]:
    """Return, for each metric of the official script, the values that are averaged.

    Args:
        examples: All questions, including the entailed questions that consistency needs.
        scores: 1 for a correct answer, 0 for a wrong one, keyed by example_id.
        predictions: Predicted answers, keyed by example_id.
        choices: Content of the choices file. None: skip validity and plausibility.

    Raises:
        ValueError: No question is in the balanced set, or one is not in the choices file.
    """
    counted = _counted(examples)
    binary: list[float] = []
    other: list[float] = []
    for example in counted:
        part = other if example.about.get("structural") == "query" else binary
        part.append(scores[example.example_id])
    values: dict[str, Sequence[float]] = {
        "accuracy": [scores[example.example_id] for example in counted],
        "binary": binary,
        "open": other,
    }
    entailed = _consistencies(counted, scores)
    if entailed is not None:
        values["consistency"] = entailed
    if choices is not None:
        for name, kind in (("validity", "valid"), ("plausibility", "plausible")):
            values[name] = [_belongs(one, predictions, choices, kind) for one in counted]
    return values


def distribution(examples: Sequence[Example], predictions: Predictions) -> float | None:
    """Compute the chi-square statistic divided by 100 (lower is better); None without groups."""
    counted = _counted(examples)
    if not any("group" in example.about for example in counted):
        return None
    return _chi_square(counted, predictions) / 100


def _counted(examples: Sequence[Example]) -> list[Example]:
    counted = [example for example in examples if is_balanced(example)]
    if not counted:
        raise ValueError(
            "none of the questions is of GQA's balanced set; score a file of balanced questions"
        )
    return counted


def _consistencies(counted: Sequence[Example], scores: Mapping[str, float]) -> list[float] | None:
    """Return, for each correct answer, the fraction of entailed questions answered correctly.

    The result is None if no question entails others, or if an entailed question has no score.
    """
    fractions = []
    has_entailed = False
    for example in counted:
        # In the file, each question entails itself. The official script skips that entry, too.
        others = [
            other
            for other in example.about.get("entailed", "").split()
            if other != example.example_id
        ]
        # Without the entailed questions (a file of balanced ones), consistency is unknown, not 0.
        if any(other not in scores for other in others):
            return None
        has_entailed = has_entailed or bool(others)
        if others and scores[example.example_id]:
            fractions.append(sum(scores[other] for other in others) / len(others))
    return fractions if has_entailed else None


def _belongs(
    example: Example, predictions: Predictions, choices: AnswerChoices, kind: str
) -> float:
    name = example.example_id
    if name not in choices:
        raise ValueError(f"question {name} is not in the choices file; use the file of this split")
    common = "Common" in example.about.get("detailed", "")
    return float(predictions.get(name) in (COMMON if common else choices[name][kind]))


def _chi_square(counted: Sequence[Example], predictions: Predictions) -> float:
    """Compute the chi-square statistic of each group, averaged with the group sizes as weights."""
    right: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for example in counted:
        group = example.about.get("group")
        if group is None or not isinstance(example.label, Answers):
            continue
        right[group][example.label.answers[0]] += 1
        if example.example_id in predictions:
            predicted[group][predictions[example.example_id]] += 1
    total = sum(sum(counts.values()) for counts in right.values())
    weighted = sum(
        sum(counts.values())
        # n is the expected count of an answer, ``predicted`` the observed one.
        * sum((predicted[group][answer] - n) ** 2 / n for answer, n in counts.items())
        for group, counts in right.items()
    )
    return weighted / total
