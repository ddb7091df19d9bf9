"""The datasets' metrics: their official evaluations' figures for a set of predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from vlray.tasks import gqa
from vlray.tasks.answers import vqa_score
from vlray.tasks.example import Answers, Boxes, Choices, Example
from vlray.tasks.grounding import CUTOFFS, box_score, phrase_hits
from vlray.tasks.predictions import Predictions
from vlray.tasks.spec import Metric

ANLS_THRESH = 0.5


class Share(NamedTuple):
    """The score of a group of examples."""

    percent: float
    num_examples: int
    """It is the mean of so many."""


@dataclass(frozen=True)
class Metrics:
    """What came out.

    Attributes:
        values: Every figure by name, in percent (GQA's distribution: as its script gives it).
        by: Score of each group, by what the groups are of (``answer_type``).
        scores: Score of each example, between 0 and 1, by its id.
        samples: What each figure is the mean of (of examples, phrases, groups of sentences), by
            its name; of a group by what it is of and its name. GQA's distribution is no mean.
        missing: Examples without a prediction, which count as wrong.
        unknown: Predictions for ids that no example has.
    """

    values: dict[str, float]
    by: dict[str, dict[str, Share]]
    scores: dict[str, float] = field(repr=False)
    samples: dict[tuple[str, ...], Sequence[float]] = field(repr=False)
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Say each figure in a line, and what was missing or unknown."""
        out = [f"{name}: {value:.2f}" for name, value in self.values.items()]
        for kind, groups in self.by.items():
            out += [
                f"  {kind} {name}: {share.percent:.2f} ({share.num_examples:,})"
                for name, share in sorted(groups.items())
            ]
        for ids, one, said in (
            (self.missing, "example", "without a prediction, counted as wrong"),
            (self.unknown, "prediction", "for ids that are not in the split"),
        ):
            if ids:
                many = "s" * (len(ids) != 1)
                out.append(f"{len(ids):,} {one}{many} {said}, such as {', '.join(ids[:3])}")
        return out


def score(
    metric: Metric,
    examples: Iterable[Example],
    predictions: Predictions,
    *,
    choices: Mapping[str, Any] | None = None,
) -> Metrics:
    """Score predictions.

    Args:
        metric: A spec's ``metric``.
        examples: Those of a split with published labels; an `ExampleTable` is fine.
        predictions: By example_id, as `predictions.read` gives them. A text; for box accuracy a
            box; for phrase recall the ranked boxes of each phrase; for recall at k the ranked image
            ids of each caption.
        choices: GQA's choices file, for its validity and plausibility.

    Raises:
        ValueError: An example has no label of the metric's kind (a test split), or a prediction is
            not of the form that the metric wants; or the metric is measured by other tools.
    """
    if metric not in _SCORERS:
        raise ValueError(
            f"{metric!r} is not measured here; there are {', '.join(_SCORERS)}. For the others "
            "use their own tools: pycocotools, pycocoevalcap, seqeval"
        )
    scores: dict[str, float] = {}
    groups: Groups = defaultdict(lambda: defaultdict(list))
    kept: list[Example] = []
    for example in examples:
        value = score_one(metric, example, predictions.get(example.example_id))
        scores[example.example_id] = value
        for kind, name in _types(metric, example).items():
            groups[kind][name].append(value)
        if metric in _OF_ALL:
            kept.append(example)
    if not scores:
        raise ValueError("there are no examples to score; give a split that has some")
    figures = _figures(metric, kept, scores, predictions, choices)
    values = {name: _percent(found) for name, found in figures.items()}
    samples: dict[tuple[str, ...], Sequence[float]] = {
        (name,): found for name, found in figures.items()
    }
    if metric == "gqa accuracy":
        spread = gqa.distribution(kept, predictions)
        values |= {} if spread is None else {"distribution": spread}
    if metric == "phrase recall":
        groups = _phrase_groups(kept, predictions)
    by: dict[str, dict[str, Share]] = {}
    for kind, named in groups.items():
        by[kind] = {name: Share(_percent(found), len(found)) for name, found in named.items()}
        samples |= {(kind, name): found for name, found in named.items()}
    missing = tuple(name for name in scores if name not in predictions)
    unknown = tuple(name for name in predictions if name not in scores)
    return Metrics(values, by, scores, samples, missing, unknown)


Groups = dict[str, dict[str, list[float]]]

_OF_ALL: frozenset[Metric] = frozenset(
    {"gqa accuracy", "accuracy and consistency", "phrase recall", "recall at k"}
)
"""What needs all examples once more; the others forget each as it is scored."""


def score_one(metric: Metric, example: Example, predicted: Any) -> float:
    """Give the score of one prediction, between 0 and 1; None is nothing predicted, and wrong.

    Raises:
        ValueError: The example has no label of the metric's kind, or the prediction another form.
    """
    if predicted is None:
        return 0.0
    try:
        return _SCORERS[metric](example, predicted)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{metric} of example {example.example_id}: {error}") from error


def _figures(
    metric: Metric,
    examples: list[Example],
    scores: dict[str, float],
    predictions: Predictions,
    choices: Mapping[str, Any] | None,
) -> Mapping[str, Sequence[float]]:
    """Give what each figure is the mean of."""
    if metric == "gqa accuracy":
        return gqa.figures(examples, scores, predictions, choices)
    if metric == "phrase recall":
        return _phrase_recall(examples, predictions)
    if metric == "recall at k":
        return {
            f"R@{k}": [
                example.image_ids[0] in list(predictions.get(example.example_id, ()))[:k]
                for example in examples
            ]
            for k in CUTOFFS
        }
    if metric != "accuracy and consistency":
        return {metric: list(scores.values())}
    sentences: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        # The readers' group is what NLVR's own scripts go by, a part of the identifier.
        sentence = example.about.get("group", example.text)
        sentences[sentence].append(scores[example.example_id])
    return {
        "accuracy": list(scores.values()),
        "consistency": [all(values) for values in sentences.values()],
    }


def _percent(values: Sequence[float]) -> float:
    return 100 * sum(values) / len(values) if values else 0.0  # 0 for none, as GQA's script says


def _types(metric: Metric, example: Example) -> Mapping[str, str]:
    if metric == "gqa accuracy":
        return gqa.types_of(example) if gqa.is_balanced(example) else {}
    wanted = ("answer_type", "question_type") if metric in ("vqa accuracy", "exact match") else ()
    return {kind: example.about[kind] for kind in wanted if kind in example.about}


def _answers(example: Example) -> tuple[str, ...]:
    if not isinstance(example.label, Answers) or not example.label.answers:
        raise ValueError("it has no answer to compare with; score a split whose labels are public")
    return example.label.answers


def _boxes(example: Example) -> Boxes:
    if not isinstance(example.label, Boxes):
        raise ValueError("it has no boxes to compare with; score a split whose labels are public")
    return example.label


def _accuracy(example: Example, predicted: Any) -> float:
    if isinstance(example.label, Choices):
        return float(int(predicted) == example.label.correct)
    return float(str(predicted).lower() in {answer.lower() for answer in _answers(example)})


def _vqa_accuracy(example: Example, predicted: str) -> float:
    """Score by the people's answers, or by the scores where only these are given (LXMERT)."""
    answers = _answers(example)
    if isinstance(example.label, Answers) and example.label.scores:
        return dict(zip(answers, example.label.scores, strict=True)).get(predicted, 0.0)
    return vqa_score(answers, predicted)


def _exact_match(example: Example, predicted: str) -> float:
    given = {answer.strip().lower() for answer in _answers(example)}
    return float(predicted.strip().lower() in given)


def anls(answers: Iterable[str], predicted: str) -> float:
    """Give DocVQA's similarity: 1 minus the edit distance over the longer length.

    The best of the answers counts; less than half alike is 0. Case and the amount of space are
    no difference.

    Source: Biten et al., arXiv:1905.13648, equation 1; threshold 0.5.
    """
    text = " ".join(predicted.lower().split())
    best = 0.0
    for answer in answers:
        distance = Levenshtein.normalized_distance(" ".join(answer.lower().split()), text)
        best = max(best, 1 - distance if distance < ANLS_THRESH else 0.0)
    return best


def _phrase_recall(examples: list[Example], predictions: Predictions) -> dict[str, Sequence[float]]:
    hits = [
        found
        for example in examples
        for found in phrase_hits(_boxes(example), predictions.get(example.example_id, ())).values()
    ]
    if not hits:
        raise ValueError("no example has a phrase with boxes; score a grounding dataset")
    return {f"R@{k}": column for k, column in zip(CUTOFFS, zip(*hits, strict=True), strict=True)}


def _phrase_groups(examples: list[Example], predictions: Predictions) -> Groups:
    """Give R@1 of every phrase, by its kind."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        label = _boxes(example)
        names = dict(zip(label.spans, label.names, strict=False))
        for span, found in phrase_hits(label, predictions.get(example.example_id, ())).items():
            if span in names:
                kinds[names[span]].append(found[0])
    return {"phrase": kinds}


def _phrases(example: Example, ranked: Any) -> float:
    hits = phrase_hits(_boxes(example), ranked)
    return sum(found[0] for found in hits.values()) / len(hits) if hits else 0.0


_SCORERS: dict[Metric, Callable[[Example, Any], float]] = {
    "vqa accuracy": _vqa_accuracy,
    "exact match": _exact_match,
    "accuracy": _accuracy,
    "gqa accuracy": lambda example, text: float(text == _answers(example)[0]),
    "accuracy and consistency": _accuracy,
    "anls": lambda example, text: anls(_answers(example), text),
    "box accuracy at IoU 0.5": lambda example, box: box_score(_boxes(example), box),
    "phrase recall": _phrases,
    "recall at k": lambda example, ranked: float(list(ranked)[:1] == [example.image_ids[0]]),
}

SCORED = frozenset(_SCORERS)
"""The metrics that `score` measures; the others are their own tools' part."""
