"""GQA's own figures: accuracy, consistency, validity, plausibility, distribution.

Source: ``eval.py`` of the dataset's download (gqadataset.org). Only questions of the balanced set
are scored; the others serve to judge consistency. What an example's ``about`` is asked for:
``structural``, ``semantic``, ``detailed`` (types), ``balanced``, ``group``, ``entailed``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vlray.tasks.example import Answers, Example
from vlray.tasks.predictions import Predictions

COMMON = ("color", "material", "shape")
"""Valid answers to "what do they have in common?", whatever the choices file says."""


def is_balanced(example: Example) -> bool:
    """Say whether it counts; the files of the balanced set say so of all their questions."""
    return example.about.get("balanced", "true").lower() == "true"


def types_of(example: Example) -> dict[str, str]:
    """Give what accuracy is broken down by: types, number of reasoning steps, number of words."""
    found = {
        kind: example.about[kind]
        for kind in ("structural", "semantic", "steps")
        if kind in example.about
    }
    return {**found, "words": str(len(example.text.split()))}


def figures(
    examples: Sequence[Example],
    scores: Mapping[str, float],
    predictions: Predictions,
    choices: Mapping[str, Any] | None,
) -> dict[str, Sequence[float]]:
    """Give what every figure of the official script is the mean of, as far as the files allow.

    Args:
        examples: All questions; those that are entailed by others have to be among them for
            consistency to be given.
        scores: 1 for a right answer, 0 for another, by example_id.
        predictions: The answers, by example_id.
        choices: ``{id: {"valid": [...], "plausible": [...]}}`` of the choices file.

    Raises:
        ValueError: No question is of the balanced set, or one has no choices.
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
    """Give the chi-square statistic over 100, lower is better; None where there are no groups."""
    counted = _counted(examples)
    if not any("group" in example.about for example in counted):
        return None
    return _chi_square(counted, predictions) / 100


def _counted(examples: Sequence[Example]) -> list[Example]:
    counted = [example for example in examples if is_balanced(example)]
    if not counted:
        raise ValueError(
            "none of the questions is of GQA's balanced set; there is nothing to score"
        )
    return counted


def _consistencies(counted: Sequence[Example], scores: Mapping[str, float]) -> list[float] | None:
    """Give, for each right answer, how many of those that it entails are right.

    None where no question entails others, or others that are not among the scored.
    """
    found = []
    known = False
    for example in counted:
        others = [
            other
            for other in example.about.get("entailed", "").split()
            if other != example.example_id
        ]
        if any(other not in scores for other in others):
            return None
        known = known or bool(others)
        if others and scores[example.example_id]:
            found.append(sum(scores[other] for other in others) / len(others))
    return found if known else None


def _belongs(
    example: Example, predictions: Predictions, choices: Mapping[str, Any], kind: str
) -> float:
    name = example.example_id
    if name not in choices:
        raise ValueError(f"question {name} is not in the choices file; give the split's own")
    common = "Common" in example.about.get("detailed", "")
    return float(predictions.get(name) in (COMMON if common else choices[name][kind]))


def _chi_square(counted: Sequence[Example], predictions: Predictions) -> float:
    """Compare the answers given with the right ones, group by group, weighted by their size."""
    right: dict[str, Counter[str]] = defaultdict(Counter)
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for example in counted:
        group = example.about.get("group")
        if group is None or not isinstance(example.label, Answers):
            continue
        right[group][example.label.answers[0]] += 1
        if example.example_id in predictions:
            given[group][predictions[example.example_id]] += 1
    total = sum(sum(counts.values()) for counts in right.values())
    weighted = sum(
        sum(counts.values())
        * sum((given[group][answer] - n) ** 2 / n for answer, n in counts.items())
        for group, counts in right.items()
    )
    return weighted / total
