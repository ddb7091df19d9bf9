"""Label spaces (the answers or classes that a model predicts), and training targets.

Shapes: B: examples of a batch; K: answers of all examples; L: labels; N: examples.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int64

from vlray.storage import files
from vlray.tasks.answers import SoftScore, answer_name, soft_scores
from vlray.tasks.example import Answers, Example
from vlray.tasks.examples import ExampleTable
from vlray.tasks.problems import EXAMPLES_SHOWN, Problems

HasLabel = Bool[np.ndarray, "N"]

AT_ONCE = 20_000
"""Number of examples whose answers are counted at once: about 10 MB with ten answers each."""


@dataclass(frozen=True)
class LabelSpace:
    """Label names; the id of a label is the index of its name."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} labels appear twice, such as {twice[0]!r}; remove the duplicates"
            )

    @classmethod
    def from_file(cls, path: str | Path) -> LabelSpace:
        """Read a label space, keeping the ids of the file.

        Args:
            path: ``.json`` with a list of names (LXMERT's ``trainval_label2ans.json`` and
                ``all_ans.json``) or a mapping of names to ids (``trainval_ans2label.json``), or
                ``.txt`` with one name per line (MMF's ``answers_vqa.txt``).

        Raises:
            ValueError: The file has the wrong format, a duplicate name, or ids other than 0, 1,
                2, ...
            FileNotFoundError: The file does not exist.
        """
        data = files.read_bytes(*files.resolve(path))
        try:
            if str(path).endswith(".txt"):
                return cls(tuple(data.decode("utf-8-sig").splitlines()))
            return cls(tuple(_names_of(json.loads(data))))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not a label space: {error}") from error

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], min_frequency: int) -> LabelSpace:
        """Build a label space from the names counted at least ``min_frequency`` times, sorted."""
        return cls(tuple(sorted(name for name, n in counts.items() if n >= min_frequency)))

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether a text is a label, spelled exactly so."""
        return name in self._ids

    def id_of(self, name: str) -> int | None:
        """Return the id of a name, else of its lower-case form; None if neither is a label."""
        label = self._ids.get(name)
        return self._ids.get(name.lower()) if label is None else label

    @cached_property
    def sha256(self) -> str:
        """Digest of the ordered names; equal for label spaces with the same ids."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


def _names_of(value: object) -> list[str]:
    if isinstance(value, dict):
        if sorted(value.values()) != list(range(len(value))):
            raise ValueError(f"the ids of its {len(value):,} names are not 0 to {len(value) - 1:,}")
        value = sorted(value, key=value.__getitem__)
    if isinstance(value, list):  # entries of LXMERT's all_ans.json also name datasets
        value = [entry.get("ans") if isinstance(entry, dict) else entry for entry in value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of names, or a mapping of names to ids")
    return value


def unite(spaces: Sequence[LabelSpace]) -> LabelSpace:
    """Merge label spaces; the result does not depend on their order.

    If all spaces are equal, the ids are kept. Otherwise the names are sorted.
    """
    # Sorting would change the ids of `classes`, whose order the spec defines.
    different = set(spaces)
    if len(different) == 1:
        return spaces[0]
    return LabelSpace(tuple(sorted({name for space in different for name in space.names})))


def labels_of(*tables: ExampleTable) -> LabelSpace:
    """Build the label space that a dataset's spec describes.

    The labels are the ``classes`` in the spec's order, or the answers that at least
    ``min_frequency`` examples have, sorted by name. With several annotators (``soft_score`` other
    than exact), each example counts once, for its most frequent answer after normalization: VQA's
    ``multiple_choice_answer`` if the file has it, else the first of the most frequent answers, or
    the answer with the highest score if the file has scores. The bottom-up attention VQA model and
    LXMERT use the same rule. With ``exact``, an example counts for each of its distinct answers,
    in lower case.

    Args:
        tables: Splits of one dataset, which are counted together. VQA's 3,129 answers, for
            instance, come from its training and validation questions.

    Raises:
        ValueError: The dataset's labels are neither answers nor classes.
    """
    spec = tables[0].spec
    if spec.labels == "classes":
        return LabelSpace(spec.classes)
    if spec.labels != "answers":
        raise ValueError(
            f"{spec.name} has no label space: its spec has labels: {spec.labels}; "
            "only answers and classes define one"
        )
    counts: Counter[str] = Counter()
    for table in tables:
        _count(table, counts)
    return LabelSpace.from_counts(counts, spec.min_frequency)


def most_frequent(space: LabelSpace, *tables: ExampleTable) -> str:
    """Return the most frequent label, counted as in `labels_of`; on a tie, the first by name.

    The result is empty if no example has a label.
    """
    counts: Counter[str] = Counter()
    for table in tables:
        answers: Counter[str] = Counter()
        if table.spec.labels == "classes":
            answers.update(table.column("answers").combine_chunks().flatten().to_pylist())
        elif table.spec.labels == "answers":
            _count(table, answers)
        for name, count in answers.items():
            label = space.id_of(name)
            if label is not None:
                counts[space.names[label]] += count
    return max(sorted(counts), key=counts.__getitem__, default="")


@dataclass(frozen=True, eq=False)
class _Answers:
    """K answers from N examples, as arrays.

    Attributes:
        owners: For each answer, the index of its example.
        codes: For each answer, its index in ``texts``.
        texts: The distinct answers.
    """

    owners: Int64[np.ndarray, K]
    codes: Int64[np.ndarray, K]
    texts: list[str]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Answers:
        # An example without a published answer has a null instead of a list.
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        encoded = column.combine_chunks().flatten().dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        return cls(
            np.repeat(np.arange(len(lengths)), lengths), codes, encoded.dictionary.to_pylist()
        )


def _count(table: ExampleTable, counts: Counter[str]) -> None:
    most_given = pc.map_lookup(table.column("about"), "multiple_choice_answer", "first")
    columns = table.column("answers"), table.column("answer_scores"), most_given
    # Count slice by slice, to bound the memory for the decoded answers.
    for start in range(0, len(table), AT_ONCE):
        answers, scores, most = (column.slice(start, AT_ONCE) for column in columns)
        coded = _Answers.of(answers)
        if table.spec.soft_score == "exact":
            counts.update(_count_examples(coded))
        else:
            how = table.spec.soft_score
            counts.update(_count_most_frequent(coded, scores, most.to_pylist(), how))


def _count_examples(answers: _Answers) -> dict[str, int]:
    """Count, for each answer, the examples that have it."""
    names = [answer_name(text, "exact").lower() for text in answers.texts]
    # An example with the same answer twice counts once: number each (example, answer) pair.
    # An array of fixed-width strings would pad each answer to the longest one.
    different, name_of = np.unique(np.array(names, object), return_inverse=True)
    pairs = np.unique(answers.owners * max(len(different), 1) + name_of[answers.codes])
    counts = np.bincount(pairs % max(len(different), 1), minlength=len(different))
    return dict(zip(different.tolist(), counts.tolist(), strict=True))


def _count_most_frequent(
    answers: _Answers, scores: pa.ChunkedArray, most: Sequence[str | None], how: SoftScore
) -> Counter[str]:
    """Count one answer per example: the most frequent, or the one with the highest score.

    Args:
        answers: Answers of the examples.
        scores: Scores of the answers, if the file has scores.
        most: Each example's most frequent answer according to the file; None or empty: unknown.
        how: Rule of the dataset's soft scores.
    """
    weights = np.ones(len(answers.owners))
    scored = pc.fill_null(pc.list_value_length(scores), 0).to_numpy() > 0
    weights[scored[answers.owners]] = scores.combine_chunks().flatten().to_numpy()
    # One integer per (example, answer) pair: owner * width + code.
    width = max(len(answers.texts), 1)
    votes, first, inverse = np.unique(
        answers.owners * width + answers.codes, return_index=True, return_inverse=True
    )
    # For each example, choose the answer with the largest sum; on a tie, the first in the file.
    owners, sums = votes // width, np.bincount(inverse, weights, len(votes))
    # lexsort's last key comes first: by example, then by sum, then by position.
    order = np.lexsort((first, -sums, owners))
    winners = order[np.unique(owners[order], return_index=True)[1]]
    counts: Counter[str] = Counter()
    for owner, code in zip(
        owners[winners].tolist(), (votes[winners] % width).tolist(), strict=True
    ):
        counts[answer_name(most[owner] or answers.texts[code], how)] += 1
    return counts


def has_known_answer(table: ExampleTable, space: LabelSpace, problems: Problems) -> HasLabel:
    """Return, for each example, whether any of its answers is a label.

    Args:
        table: The examples. The result is True for an example without published answers.
        space: The label space.
        problems: Object in which examples with the result False are counted, as
            ``unknown-answer``.
    """
    how = table.spec.soft_score
    column = table.column("answers")
    has_label = np.ones(len(table), bool)
    for start in range(0, len(table), AT_ONCE):
        answers = _Answers.of(column.slice(start, AT_ONCE))
        names = [answer_name(text, how, space) for text in answers.texts]
        is_label = np.array([space.id_of(name) is not None for name in names], bool)
        has_label[start : start + AT_ONCE] = False
        has_label[start + answers.owners[is_label[answers.codes]]] = True
    has_label |= ~column.is_valid().to_numpy()
    unknown = np.flatnonzero(~has_label)
    first = unknown[:EXAMPLES_SHOWN]
    for index, example in enumerate(table.take(first)):
        assert isinstance(example.label, Answers)
        listed = ", ".join(dict.fromkeys(example.label.answers)) or "no answer"
        # The last example that is shown also counts for all the examples not shown.
        count = len(unknown) - index if index == len(first) - 1 else 1
        problems.add("unknown-answer", f"{example.example_id} ({listed})", count)
    return has_label


def targets(
    examples: Sequence[Example], space: LabelSpace, how: SoftScore
) -> Float32[np.ndarray, "B L"]:
    """Compute the targets for a batch: each example's soft score for every label.

    As in LXMERT, a row is zero if none of the example's answers is a label; `has_known_answer`
    finds such examples beforehand. If two answers of an example map to the same label, the higher
    score counts.
    """
    out = np.zeros((len(examples), len(space)), np.float32)
    for row, example in enumerate(examples):
        if not isinstance(example.label, Answers):
            continue
        for answer, score in soft_scores(example.label, how, space).items():
            label = space.id_of(answer)
            if label is not None:
                out[row, label] = max(out[row, label], score)
    return out
