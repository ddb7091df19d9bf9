"""Compute the datasets' metrics, as in their official evaluations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from vlray.tasks import gqa
from vlray.tasks.answers import canonical, vqa_score
from vlray.tasks.example import Answers, Boxes, Choices, Example
from vlray.tasks.grounding import CUTOFFS, box_score, phrase_hits
from vlray.tasks.predictions import Predictions
from vlray.tasks.spec import Metric

ANLS_THRESH = 0.5


class Share(NamedTuple):
    """The mean score of a group of examples."""

    percent: float
    num_examples: int
    """Number of scores averaged: one per example, or one per phrase for phrase recall."""


@dataclass(frozen=True)
class Metrics:
    """Metrics for one set of predictions.

    Attributes:
        values: Metrics keyed by name, in percent (GQA's distribution: as in GQA's script).
        by: Group scores, keyed by the field that defines the groups (``answer_type``), then by
            group.
        scores: Score of each example, in [0, 1], keyed by example_id.
        samples: The values averaged in each metric (one per example, phrase or group of
            sentences), keyed by ``(metric,)`` or ``(field, group)``. GQA's distribution is not a
            mean and has no entry.
        missing: Ids of examples without a prediction, which count as wrong.
        unknown: Ids of predictions that match no example.
    """

    values: dict[str, float]
    by: dict[str, dict[str, Share]]
    scores: dict[str, float] = field(repr=False)
    samples: dict[tuple[str, ...], Sequence[float]] = field(repr=False)
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def lines(self, left_out: str = "") -> list[str]:
        """Format one line per metric and group, and a line each for missing and unknown ids.

        Args:
            left_out: What the scored examples lack (`Problems.left_out`), shown at each metric.
        """
        lack = f" (over {len(self.scores):,} examples; left out: {left_out})" if left_out else ""
        out = [f"{name}: {value:.2f}{lack}" for name, value in self.values.items()]
        for kind, groups in self.by.items():
            out += [
                f"  {kind} {name}: {share.percent:.2f} ({share.num_examples:,})"
                for name, share in sorted(groups.items())
            ]
        for ids, one, fault in (
            (self.missing, "example", "without a prediction, counted as wrong"),
            (self.unknown, "prediction", "for ids that are not in the split"),
        ):
            if ids:
                many = "s" * (len(ids) != 1)
                out.append(f"{len(ids):,} {one}{many} {fault}, such as {', '.join(ids[:3])}")
        return out


def score(
    metric: Metric,
    examples: Iterable[Example],
    predictions: Predictions,
    *,
    choices: gqa.AnswerChoices | None = None,
) -> Metrics:
    """Score predictions with a dataset's metric.

    Args:
        metric: ``metric`` in the dataset's spec.
        examples: Examples of a split with published labels, for instance an `ExampleTable`.
        predictions: Predictions keyed by example_id, as returned by `predictions.read`: a text;
            for box accuracy, a box; for phrase recall, the ranked boxes for each phrase; for
            recall at k, the ranked image ids for the caption.
        choices: Content of GQA's choices file, for validity and plausibility.

    Raises:
        ValueError: An example lacks the type of label that the metric needs (a test split), a
            prediction has the wrong format, there are no examples, or vlray does not compute the
            metric.
    """
    if metric not in _SCORERS:
        raise ValueError(
            f"{metric!r} is not computed by vlray, which has {', '.join(_SCORERS)}. For the other "
            "metrics use pycocotools, pycocoevalcap or seqeval"
        )
    scores: dict[str, float] = {}
    groups: Groups = defaultdict(lambda: defaultdict(list))
    all_examples: list[Example] = []
    for example in examples:
        value = score_one(metric, example, predictions.get(example.example_id))
        scores[example.example_id] = value
        for kind, name in _types(metric, example).items():
            groups[kind][name].append(value)
        if metric in _OF_ALL:
            all_examples.append(example)
    if not scores:
        raise ValueError("no examples to score: the split is empty; choose another split")
    by_metric = _metric_samples(metric, all_examples, scores, predictions, choices)
    values = {name: _percent(column) for name, column in by_metric.items()}
    samples: dict[tuple[str, ...], Sequence[float]] = {
        (name,): column for name, column in by_metric.items()
    }
    if metric == "gqa accuracy":
        distribution = gqa.distribution(all_examples, predictions)
        values |= {} if distribution is None else {"distribution": distribution}
    if metric == "phrase recall":
        # Phrase recall counts phrases, so its groups consist of phrases, not of examples.
        groups = _phrase_groups(all_examples, predictions)
    by: dict[str, dict[str, Share]] = {}
    for kind, named in groups.items():
        by[kind] = {name: Share(_percent(column), len(column)) for name, column in named.items()}
        samples |= {(kind, name): column for name, column in named.items()}
    missing = tuple(name for name in scores if name not in predictions)
    unknown = tuple(name for name in predictions if name not in scores)
    return Metrics(values, by, scores, samples, missing, unknown)


Groups = dict[str, dict[str, list[float]]]

_OF_ALL: frozenset[Metric] = frozenset(
    {"gqa accuracy", "accuracy and consistency", "phrase recall", "recall at k"}
)
"""Metrics that need all examples in memory; for other metrics, examples are dropped once scored."""


def score_one(metric: Metric, example: Example, predicted: object) -> float:
    """Compute the score of one prediction, in [0, 1]. A missing prediction (None) scores 0.

    Raises:
        ValueError: The example lacks the type of label that the metric needs, or the prediction
            has the wrong format.
    """
    if predicted is None:
        return 0.0
    try:
        return _SCORERS[metric](example, predicted)
    # A prediction comes from a file and may have any type, such as a list instead of a text.
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{metric} of example {example.example_id}: {error}") from error


def _metric_samples(
    metric: Metric,
    examples: list[Example],
    scores: dict[str, float],
    predictions: Predictions,
    choices: gqa.AnswerChoices | None,
) -> Mapping[str, Sequence[float]]:
    """Return, for each metric, the values that are averaged."""
    if metric == "gqa accuracy":
        return gqa.metric_samples(examples, scores, predictions, choices)
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
        # NLVR's scripts group by part of the identifier, which the layout stores as ``group``.
        sentence = example.about.get("group", example.text)
        sentences[sentence].append(scores[example.example_id])
    return {
        "accuracy": list(scores.values()),
        "consistency": [all(values) for values in sentences.values()],
    }


def _percent(values: Sequence[float]) -> float:
    # GQA's script reports 0 if there are no values.
    return 100 * sum(values) / len(values) if values else 0.0


def _types(metric: Metric, example: Example) -> Mapping[str, str]:
    if metric == "gqa accuracy":
        # Questions outside the balanced set are read for consistency only.
        return gqa.types_of(example) if gqa.is_balanced(example) else {}
    typed = ("vqa accuracy", "exact match", "canonical exact match")
    kinds = ("answer_type", "question_type") if metric in typed else ()
    return {kind: example.about[kind] for kind in kinds if kind in example.about}


def _answers(example: Example) -> tuple[str, ...]:
    if not isinstance(example.label, Answers) or not example.label.answers:
        raise ValueError("no answer to compare with; score a split with published labels")
    return example.label.answers


def _boxes(example: Example) -> Boxes:
    if not isinstance(example.label, Boxes):
        raise ValueError("no boxes to compare with; score a split with published labels")
    return example.label


def _accuracy(example: Example, predicted: Any) -> float:
    if isinstance(example.label, Choices):
        return float(int(predicted) == example.label.correct)
    return float(str(predicted).lower() in {answer.lower() for answer in _answers(example)})


def _vqa_accuracy(example: Example, predicted: str) -> float:
    """Score against the annotators' answers, or look up soft scores from the file (LXMERT's)."""
    answers = _answers(example)
    if isinstance(example.label, Answers) and example.label.scores:
        return dict(zip(answers, example.label.scores, strict=True)).get(predicted, 0.0)
    return vqa_score(answers, predicted)


def _exact_match(example: Example, predicted: str) -> float:
    answers = {answer.strip().lower() for answer in _answers(example)}
    return float(predicted.strip().lower() in answers)


def anls(answers: Iterable[str], predicted: str) -> float:
    """Compute DocVQA's ANLS: 1 minus the edit distance divided by the longer length.

    The most similar answer counts; a similarity of 0.5 or less counts as 0. Case and the amount
    of whitespace are ignored.

    Source: Biten et al., arXiv:1905.13648, equation 1; threshold 0.5.
    """
    text = " ".join(predicted.lower().split())
    best = 0.0
    for answer in answers:
        # RapidFuzz, too, divides by the longer of the two lengths.
        distance = Levenshtein.normalized_distance(" ".join(answer.lower().split()), text)
        best = max(best, 1 - distance if distance < ANLS_THRESH else 0.0)
    return best


def _phrase_recall(examples: list[Example], predictions: Predictions) -> dict[str, Sequence[float]]:
    hits = [
        phrase
        for example in examples
        for phrase in phrase_hits(_boxes(example), predictions.get(example.example_id, ())).values()
    ]
    if not hits:
        raise ValueError("no example has a phrase with boxes; use a grounding dataset")
    return {f"R@{k}": column for k, column in zip(CUTOFFS, zip(*hits, strict=True), strict=True)}


def _phrase_groups(examples: list[Example], predictions: Predictions) -> Groups:
    """Return R@1 for every phrase, grouped by phrase type."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for example in examples:
        label = _boxes(example)
        # A phrase with several boxes repeats its span and its name.
        # names is empty if the dataset has no phrase types.
        names = dict(zip(label.spans, label.names, strict=False))
        for span, hits in phrase_hits(label, predictions.get(example.example_id, ())).items():
            if span in names:
                kinds[names[span]].append(hits[0])
    return {"phrase": kinds}


def _phrases(example: Example, ranked: Any) -> float:
    hits = phrase_hits(_boxes(example), ranked)
    return sum(phrase[0] for phrase in hits.values()) / len(hits) if hits else 0.0


_SCORERS: dict[Metric, Callable[[Example, Any], float]] = {
    "vqa accuracy": _vqa_accuracy,
    "exact match": _exact_match,
    # LXMERT's pretraining: a model predicts "man" where the annotator wrote "A man.".
    "canonical exact match": lambda example, text: float(
        canonical(text) in map(canonical, _answers(example))
    ),
    "accuracy": _accuracy,
    # GQA has one answer per question.
    "gqa accuracy": lambda example, text: float(text == _answers(example)[0]),
    "accuracy and consistency": _accuracy,
    "anls": lambda example, text: anls(_answers(example), text),
    "box accuracy at IoU 0.5": lambda example, box: box_score(_boxes(example), box),
    "phrase recall": _phrases,
    # The only correct image for a caption is the example's own image.
    "recall at k": lambda example, ranked: float(list(ranked)[:1] == [example.image_ids[0]]),
}

SCORED = frozenset(_SCORERS)
"""Metrics that `score` computes."""
