"""Sentences that several commands need: what was most likely meant, and what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def similar(word: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names that are spelled most like ``word``, the nearest first.

    Args:
        word: As a user wrote it.
        names: To choose from.
        count: Return at most this many.
        cutoff: Similarity in [0, 1] below which a name is left out.
    """
    return difflib.get_close_matches(word, list(names), n=count, cutoff=cutoff)


def did_you_mean(word: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> str:
    """Return the question, with a space at its end; empty if no name is similar."""
    close = similar(word, names, count, cutoff)
    return f"did you mean {' or '.join(close)}? " if close else ""


def plain_message(message: str) -> str:
    """Reword a message of pydantic so that it continues a sentence."""
    return message.removeprefix("Value error, ").replace("Input should", "it should")


def explain_errors(error: ValidationError) -> str:
    """Describe every mistake that pydantic found: the place of the value, and the message."""
    return "; ".join(
        f"{'.'.join(map(str, detail['loc']))}: {plain_message(detail['msg'])}".removeprefix(": ")
        for detail in error.errors(include_url=False)
    )
