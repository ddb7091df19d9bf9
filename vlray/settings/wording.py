"""Phrases for messages: counted nouns, suggestions, and rewording of pydantic's messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``1,234 images``.

    Args:
        count: The number.
        noun: The noun in the singular.
        plural: The plural. Empty: the noun with an "s".
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def similar(word: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names with the spelling closest to ``word``, closest first.

    Args:
        word: The word that the user wrote.
        names: The candidates.
        count: Maximum number of names to return.
        cutoff: Minimum similarity in [0, 1].
    """
    return difflib.get_close_matches(word, list(names), n=count, cutoff=cutoff)


def did_you_mean(word: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> str:
    """Return "did you mean ...? " with a trailing space; empty if no name is similar."""
    close = similar(word, names, count, cutoff)
    return f"did you mean {' or '.join(close)}? " if close else ""


def plain_message(message: str) -> str:
    """Reword a pydantic message so that it can follow a colon in a sentence."""
    return message.removeprefix("Value error, ").replace("Input should", "it should")


def explain_errors(error: ValidationError) -> str:
    """Return pydantic's errors as text: the path of each value and the message."""
    return "; ".join(
        f"{'.'.join(map(str, detail['loc']))}: {plain_message(detail['msg'])}".removeprefix(": ")
        for detail in error.errors(include_url=False)
    )
