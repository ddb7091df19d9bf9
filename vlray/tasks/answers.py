"""Normalize and score answers as VQA's official evaluation does.

Source: GT-Vision-Lab/VQA, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``, which OK-VQA and
VizWiz also use. Oddities of the official script are reproduced to keep scores comparable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from vlray.tasks.example import Answers

SoftScore = Literal["vqa", "lxmert", "lxmert-pretraining", "exact"]

NUMBERS: Mapping[str, str] = {
    "none": "0",
    **{
        word: str(number)
        for number, word in enumerate(
            "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905 - readable
        )
    },
}
# LXMERT's table begins at one: "none" and "zero" stay words.
_SYNONYMS = {word: digits for word, digits in NUMBERS.items() if word not in ("none", "zero")} | {
    "grey": "gray"
}
ARTICLES = frozenset({"a", "an", "the"})
MARKS = ';/[]"{}()=+\\_-><@`,?!'

_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
""".split()  # noqa: SIM905 - a list of 90 would fill a page

CONTRACTIONS: Mapping[str, str] = {
    **{
        word[:index] + word[index + 1 :]: word
        for word in _CONTRACTED
        for index, letter in enumerate(word)
        if letter == "'"
    },
    "somebody'd": "somebodyd",  # key and value are swapped in the official table
}
"""Contractions, keyed by their spelling with one apostrophe missing."""

# The official script runs in Python 2, where \d matches only 0 to 9. Its intended look-behind is
# written (?!<=\d), which always matches, so only the character after the period matters.
_COMMA_IN_NUMBER = re.compile(r"\d,\d", re.ASCII)
_PERIOD = re.compile(r"\.(?!\d)", re.ASCII)
_MAX_PERIODS = 32  # the script passes re.UNICODE, which is 32, as the count of re.sub

LXMERT_SCORES = (0.0, 0.3, 0.6, 0.9)
"""LXMERT's soft score for an answer from 0, 1, 2 or 3 annotators; four or more score 1."""


# Answers repeat across questions, so most calls hit the cache.
@lru_cache(maxsize=2**17)
def clean_answer(text: str) -> str:
    """Join an answer's lines and strip whitespace: all that is done to unanimous answers."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=2**17)
def normalize_answer(text: str) -> str:
    """Normalize an answer as VQA's evaluation does.

    Converts to lower case, removes punctuation and articles, writes number words up to ten as
    digits, and restores missing apostrophes. A punctuation mark becomes a space. It is removed
    instead if it is next to a space anywhere in the text, or if the text has a comma within a
    number. A period is removed unless a digit follows.
    """
    text = clean_answer(text)
    words = (NUMBERS.get(word, word) for word in _without_marks(text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_marks(text: str) -> str:
    has_number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    # As in the script, the conditions use the original text, not the text changed so far.
    for mark in MARKS:
        if mark in text:
            joined = has_number or f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if joined else " ")
    return _PERIOD.sub("", out, count=_MAX_PERIODS)


def vqa_score(answers: Sequence[str], prediction: str) -> float:
    """Compute the VQA accuracy of a predicted answer.

    The score is the mean of ``min(1, n / 3)`` over the leave-one-out subsets of the answers, where
    n is the number of answers in the subset that equal the prediction. If the answers are
    unanimous, neither they nor the prediction are normalized: "two" is wrong if all annotators
    wrote "2".

    Args:
        answers: Annotated answers, ten for VQA. With a single answer, the score is always 0.
        prediction: Any text.

    Returns:
        Score in [0, 1].
    """
    cleaned = [clean_answer(answer) for answer in answers]
    prediction = clean_answer(prediction)
    if len(set(cleaned)) > 1:
        cleaned = [normalize_answer(answer) for answer in cleaned]
        prediction = normalize_answer(prediction)
    return leave_one_out(cleaned.count(prediction), len(cleaned))


def leave_one_out(count: int, total: int) -> float:
    """Compute the mean of ``min(1, n / 3)`` over the leave-one-out subsets of the answers.

    Args:
        count: Number of answers that equal the scored answer.
        total: Number of answers, at least one.
    """
    if not count:
        return 0.0
    # ``count`` of the subsets leave out an equal answer, the others a different one.
    without, with_it = min(1.0, (count - 1) / 3), min(1.0, count / 3)
    return (count * without + (total - count) * with_it) / total


def soft_scores(answers: Answers, how: SoftScore, labels: Container[str] = ()) -> dict[str, float]:
    """Compute a soft score for each distinct answer in an example, to use as a target.

    Args:
        answers: The example's answers. Scores that the file contains (LXMERT's files) are used
            unchanged.
        how: ``vqa``: `leave_one_out` on the normalized answers. ``lxmert`` and
            ``lxmert-pretraining``: `LXMERT_SCORES`, indexed by the number of equal answers; they
            differ in `answer_name`. ``exact``: 1 for each distinct answer, after stripping
            whitespace.
        labels: See `answer_name`.

    Returns:
        Scores keyed by answer, in order of first appearance.
    """
    names = [answer_name(answer, how, labels) for answer in answers.answers]
    if answers.scores:
        return dict(zip(names, answers.scores, strict=True))
    counts = Counter(names)
    if how == "vqa":
        return {name: leave_one_out(count, len(names)) for name, count in counts.items()}
    if how in ("lxmert", "lxmert-pretraining"):
        return {
            name: LXMERT_SCORES[count] if count < len(LXMERT_SCORES) else 1.0
            for name, count in counts.items()
        }
    return dict.fromkeys(counts, 1.0)


def answer_name(text: str, how: SoftScore, labels: Container[str] = ()) -> str:
    """Return the form in which answers are compared.

    This is the stripped text for ``exact``, LXMERT's spelling (see `canonical`) for
    ``lxmert-pretraining``, and the answer as VQA normalizes it for the others.

    Args:
        text: The answer, as in the file.
        how: Rule of the dataset's soft scores.
        labels: Names of the label space. ``lxmert-pretraining`` keeps an answer that is one of
            them, so that no label becomes another one.
    """
    if how == "exact":
        return text.strip()
    if how != "lxmert-pretraining":
        return normalize_answer(text)
    return text if text in labels else canonical(text)


@lru_cache(maxsize=2**17)
def canonical(answer: str) -> str:
    """Convert an answer to the spelling of LXMERT's 9,500 answers.

    The result is in lower case, without a leading article, and with digits for one to ten.

    Source:
        airsplay/lxmert src/pretrain/qa_answer_table.py, AnswerTable.
    """
    answer = answer.lower().removesuffix(".").strip()
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article).strip()
    return _SYNONYMS.get(answer, answer)
