"""VQA's answers as its official evaluation sees them: normalized, and scored by ten people.

Source: GT-Vision-Lab/VQA, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``; OK-VQA and VizWiz use
it too. What looks odd here is odd there, and is kept: scores are comparable only if it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

from vlray.tasks.example import Answers

SoftScore = Literal["vqa", "lxmert", "exact"]

NUMBERS: Mapping[str, str] = {
    "none": "0",
    **{
        word: str(number)
        for number, word in enumerate(
            "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905 - readable
        )
    },
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
        word[:place] + word[place + 1 :]: word
        for word in _CONTRACTED
        for place, letter in enumerate(word)
        if letter == "'"
    },
    "somebody'd": "somebodyd",  # the wrong way round in the official table
}
"""The word with all its apostrophes, by the word with one of them forgotten."""

# In the official script's Python 2, \d is 0 to 9. The look-behind that it meant to have is written
# (?!<=\d), which is always true: only what follows the period counts.
_COMMA_IN_NUMBER = re.compile(r"\d,\d", re.ASCII)
_PERIOD = re.compile(r"\.(?!\d)", re.ASCII)
_MAX_PERIODS = 32  # re.UNICODE is given where re.sub takes a count; its value is 32

LXMERT_SCORES = (0.0, 0.3, 0.6, 0.9)
"""LXMERT's soft score of an answer that 0, 1, 2, 3 people gave; 1 from four on."""


@lru_cache(maxsize=2**17)
def clean_answer(text: str) -> str:
    """Put an answer on one line, without space around it: all that unanimous answers get."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=2**17)
def normalize_answer(text: str) -> str:
    """Normalize an answer as VQA's evaluation does.

    Lower case, no punctuation or articles, number words up to ten as digits, forgotten apostrophes
    put back. A mark leaves a space unless it has one beside it somewhere in the text, or the text
    has a comma within a number; a period stays before a digit.
    """
    text = clean_answer(text)
    words = (NUMBERS.get(word, word) for word in _without_marks(text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_marks(text: str) -> str:
    has_number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in MARKS:
        if mark in text:
            joined = has_number or f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if joined else " ")
    return _PERIOD.sub("", out, count=_MAX_PERIODS)


def vqa_score(answers: Sequence[str], prediction: str) -> float:
    """Score a predicted answer by VQA's accuracy.

    The mean over the leave-one-out subsets of the answers of ``min(1, n / 3)``, where n of the
    subset are the prediction. Nothing is normalized where the answers are unanimous, not even the
    prediction: "two" is then wrong if everybody said "2".

    Args:
        answers: What people gave, ten for VQA. A single one always scores 0.
        prediction: Any text.

    Returns:
        Between 0 and 1.
    """
    given = [clean_answer(answer) for answer in answers]
    prediction = clean_answer(prediction)
    if len(set(given)) > 1:
        given = [normalize_answer(answer) for answer in given]
        prediction = normalize_answer(prediction)
    return leave_one_out(given.count(prediction), len(given))


def leave_one_out(count: int, total: int) -> float:
    """Give the mean of ``min(1, n / 3)`` over the subsets without one of the answers.

    Args:
        count: How many of all answers are the one that is scored.
        total: How many answers there are; at least one.
    """
    if not count:
        return 0.0
    left_out, kept = min(1.0, (count - 1) / 3), min(1.0, count / 3)
    return (count * left_out + (total - count) * kept) / total


def soft_scores(answers: Answers, how: SoftScore) -> dict[str, float]:
    """Score every answer that an example has, for a target.

    Args:
        answers: With scores of their own (LXMERT's files), those are taken as they are.
        how: ``vqa``: `leave_one_out` of the normalized answers. ``lxmert``: its table by count
            (`LXMERT_SCORES`), which is the same wherever there are ten. ``exact``: 1 for each
            answer, as it is but for space around it.

    Returns:
        The score by answer, in the order in which they first come.
    """
    names = [answer_name(answer, how) for answer in answers.answers]
    if answers.scores:
        return dict(zip(names, answers.scores, strict=True))
    counts = Counter(names)
    if how == "vqa":
        return {name: leave_one_out(count, len(names)) for name, count in counts.items()}
    if how == "lxmert":
        return {
            name: LXMERT_SCORES[count] if count < len(LXMERT_SCORES) else 1.0
            for name, count in counts.items()
        }
    return dict.fromkeys(counts, 1.0)


def answer_name(text: str, how: SoftScore) -> str:
    """Give an answer the form in which answers of its kind are told apart."""
    return text.strip() if how == "exact" else normalize_answer(text)
