"""Label spaces: which answers or classes a model tells apart, and targets over them."""

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
from vlray.tasks.answers import SoftScore, answer_name, normalize_answer, soft_scores
from vlray.tasks.example import Answers, Example
from vlray.tasks.examples import ExampleTable
from vlray.tasks.problems import EXAMPLES_SHOWN, Problems

Known = Bool[np.ndarray, "N"]

AT_ONCE = 20_000
"""Examples whose answers are looked at together: 10 MB or so with ten answers each."""


@dataclass(frozen=True)
class LabelSpace:
    """Names of labels; the id of each is its place."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f"{len(twice)} labels are given twice, such as {twice[0]!r}; give each once"
            )

    @classmethod
    def from_file(cls, path: str | Path) -> LabelSpace:
        """Read a label space; ids are those of the file.

        Args:
            path: ``.json`` with a list of names (LXMERT's ``trainval_label2ans.json`` and
                ``all_ans.json``) or their ids by name (``trainval_ans2label.json``), or ``.txt``
                with a name a line (MMF's ``answers_vqa.txt``).

        Raises:
            ValueError: It has another form, a name twice, or ids that are not 0, 1, 2, ...
            FileNotFoundError: There is none.
        """
        data = files.read_bytes(*files.resolve(path))
        if str(path).endswith(".txt"):
            return cls(tuple(data.decode().splitlines()))
        try:
            return cls(tuple(_names_of(json.loads(data))))
        except ValueError as error:
            raise ValueError(f"{path} is no label space: {error}") from error

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], min_frequency: int) -> LabelSpace:
        """Take the names that are frequent enough, sorted."""
        return cls(tuple(sorted(name for name, n in counts.items() if n >= min_frequency)))

    def __len__(self) -> int:
        """Give the number of labels."""
        return len(self.names)

    def id_of(self, name: str) -> int | None:
        """Give the id of a name, or of its lower-case form if it is none; None: neither is."""
        found = self._ids.get(name)
        return self._ids.get(name.lower()) if found is None else found

    @cached_property
    def sha256(self) -> str:
        """Digest of the names in their order: equal for spaces whose ids agree."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


def _names_of(value: object) -> list[str]:
    if isinstance(value, dict):
        if sorted(value.values()) != list(range(len(value))):
            raise ValueError(f"the ids of its {len(value):,} names are not 0 to {len(value) - 1:,}")
        value = sorted(value, key=value.__getitem__)
    if isinstance(value, list):  # LXMERT's all_ans.json says of each which datasets have it
        value = [entry.get("ans") if isinstance(entry, dict) else entry for entry in value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("give a list of names, or their ids by name")
    return value


def unite(spaces: Sequence[LabelSpace]) -> LabelSpace:
    """Make one space of several, the same in whatever order they are given.

    Ids stay as they are where all are the same space; otherwise the names are sorted.
    """
    different = set(spaces)
    if len(different) == 1:
        return spaces[0]
    return LabelSpace(tuple(sorted({name for space in different for name in space.names})))


def labels_of(*tables: ExampleTable) -> LabelSpace:
    """Give the label space that a dataset's spec describes.

    The ``classes`` in their order, or the answers that at least ``min_frequency`` examples have,
    sorted by name. Of answers by several people (``soft_score`` vqa or lxmert) the one that most
    gave is counted, normalized: VQA's ``multiple_choice_answer``, or where the file does not say,
    the first of those that most gave, or that has the highest score of the file. This is the rule
    of the bottom-up attention VQA model and of LXMERT. For ``exact``, each answer of an example
    counts, in lower case.

    Args:
        tables: The splits whose answers are counted together; all of one dataset, as VQA's 3,129
            answers are of its training and validation questions.

    Raises:
        ValueError: The dataset has labels of another kind; says which.
    """
    spec = tables[0].spec
    if spec.labels == "classes":
        return LabelSpace(spec.classes)
    if spec.labels != "answers":
        raise ValueError(
            f"{spec.name} has no label space: its labels are {spec.labels}; "
            "only answers and classes make one"
        )
    counts: Counter[str] = Counter()
    for table in tables:
        _count(table, counts)
    return LabelSpace.from_counts(counts, spec.min_frequency)


def most_frequent(space: LabelSpace, *tables: ExampleTable) -> str:
    """Give the label that most examples have, counted as `labels_of` does; of several the first.

    Empty where no example has one.
    """
    counts: Counter[str] = Counter()
    for table in tables:
        found: Counter[str] = Counter()
        if table.spec.labels == "classes":
            found.update(table.column("answers").combine_chunks().flatten().to_pylist())
        elif table.spec.labels == "answers":
            _count(table, found)
        for name, count in found.items():
            label = space.id_of(name)
            if label is not None:
                counts[space.names[label]] += count
    return max(sorted(counts), key=counts.__getitem__, default="")


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers of some examples, all at once: K of them, of N examples.

    Attributes:
        owners: Which of the examples each is of.
        codes: Which of the texts each is.
        texts: The different ones.
    """

    owners: Int64[np.ndarray, K]
    codes: Int64[np.ndarray, K]
    texts: list[str]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Answers:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        encoded = column.combine_chunks().flatten().dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        return cls(
            np.repeat(np.arange(len(lengths)), lengths), codes, encoded.dictionary.to_pylist()
        )


def _count(table: ExampleTable, counts: Counter[str]) -> None:
    most_given = pc.map_lookup(table.column("about"), "multiple_choice_answer", "first")
    columns = table.column("answers"), table.column("answer_scores"), most_given
    for start in range(0, len(table), AT_ONCE):
        answers, scores, most = (column.slice(start, AT_ONCE) for column in columns)
        found = _Answers.of(answers)
        if table.spec.soft_score == "exact":
            counts.update(_each_once(found))
        else:
            counts.update(_most_given(found, scores, most.to_pylist()))


def _each_once(answers: _Answers) -> dict[str, int]:
    """Count the examples that have each answer."""
    names = [answer_name(text, "exact").lower() for text in answers.texts]
    different, name_of = np.unique(np.array(names, object), return_inverse=True)
    pairs = np.unique(answers.owners * max(len(different), 1) + name_of[answers.codes])
    counts = np.bincount(pairs % max(len(different), 1), minlength=len(different))
    return dict(zip(different.tolist(), counts.tolist(), strict=True))


def _most_given(
    answers: _Answers, scores: pa.ChunkedArray, most: Sequence[str | None]
) -> Counter[str]:
    """Count the answer that most gave of each example, or that has the highest score.

    Args:
        answers: Of the examples.
        scores: Of the answers, where the file has them.
        most: What the file says most gave; None or empty: it says nothing.
    """
    weights = np.ones(len(answers.owners))
    scored = pc.fill_null(pc.list_value_length(scores), 0).to_numpy() > 0
    weights[scored[answers.owners]] = scores.combine_chunks().flatten().to_numpy()
    width = max(len(answers.texts), 1)
    votes, first, place = np.unique(
        answers.owners * width + answers.codes, return_index=True, return_inverse=True
    )
    # Of each example the one with the most, of several the first.
    owners, sums = votes // width, np.bincount(place, weights, len(votes))
    order = np.lexsort((first, -sums, owners))
    winners = order[np.unique(owners[order], return_index=True)[1]]
    counts: Counter[str] = Counter()
    for owner, code in zip(
        owners[winners].tolist(), (votes[winners] % width).tolist(), strict=True
    ):
        counts[normalize_answer(most[owner] or answers.texts[code])] += 1
    return counts


def has_known_answer(table: ExampleTable, space: LabelSpace, problems: Problems) -> Known:
    """Find the examples with an answer in the space, to keep only these or to know how many.

    Args:
        table: The examples; those whose answer is not published count as known.
        space: The labels.
        problems: Where the others are counted, as ``unknown-answer``.
    """
    how = table.spec.soft_score
    column = table.column("answers")
    known = np.ones(len(table), bool)
    for start in range(0, len(table), AT_ONCE):
        answers = _Answers.of(column.slice(start, AT_ONCE))
        names = [answer_name(text, how) for text in answers.texts]
        is_label = np.array([space.id_of(name) is not None for name in names], bool)
        known[start : start + AT_ONCE] = False
        known[start + answers.owners[is_label[answers.codes]]] = True
    known |= ~column.is_valid().to_numpy()
    unknown = np.flatnonzero(~known)
    first = unknown[:EXAMPLES_SHOWN]
    for place, example in enumerate(table.take(first)):
        assert isinstance(example.label, Answers)
        given = ", ".join(dict.fromkeys(example.label.answers)) or "none at all"
        count = len(unknown) - place if place == len(first) - 1 else 1
        problems.add("unknown-answer", f"{example.example_id} ({given})", count)
    return known


def targets(
    examples: Sequence[Example], space: LabelSpace, how: SoftScore
) -> Float32[np.ndarray, "B L"]:
    """Make the targets of a batch: the soft score of every label.

    A row is zero where the example has no answer, or none that is in the space, as in LXMERT;
    `has_known_answer` finds these beforehand. Two answers of an example that are one label give
    the higher score.
    """
    out = np.zeros((len(examples), len(space)), np.float32)
    for row, example in enumerate(examples):
        if not isinstance(example.label, Answers):
            continue
        for answer, score in soft_scores(example.label, how).items():
            label = space.id_of(answer)
            if label is not None:
                out[row, label] = max(out[row, label], score)
    return out
