"""What the layouts share: fields of an entry that have to be there, and images' names as ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vlray.images.ids import image_ids
from vlray.tasks.example import Example
from vlray.tasks.layouts.documents import short_name
from vlray.tasks.problems import Problems


class LackError(ValueError):
    """An entry lacks what an example needs; the message says what."""

    kind = "incomplete"


class NoImageError(LackError):
    """It is the image that the entry lacks."""

    kind = "no-image"


_MISSHAPEN = (LackError, KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What reading an entry raises whose lists and objects are not where they should be."""


def text_of(entry: Mapping[str, Any], key: str) -> str:
    """Give a text that an example cannot do without.

    Raises:
        LackError: It is missing, empty or no text.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise LackError(f"no {key}" if value is None else f"{key} is {value!r:.40}")
    return value.strip()


def id_of(entry: Mapping[str, Any], key: str) -> str:
    """Give an id, which files have as a number or as a text.

    Raises:
        LackError: It is missing, empty or of another kind.
    """
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise LackError(f"no {key}" if value is None else f"{key} is {value!r:.40}")
    return str(value)


def image_of(entry: Mapping[str, Any], key: str) -> str:
    """Give the name or the number of the entry's image.

    Raises:
        NoImageError: It is missing, empty or of another kind.
    """
    try:
        return id_of(entry, key)
    except LackError as error:
        raise NoImageError(*error.args) from error


def about(entry: Mapping[str, Any], *keys: str) -> dict[str, str]:
    """Give those of the fields that the entry has, as texts without blanks around them."""
    return {key: str(entry[key]).strip() for key in keys if entry.get(key) not in (None, "")}


def image_namer(options: Mapping[str, str]) -> Callable[[str], str]:
    """Make image ids of images' names, or of their numbers, by the dataset's id rule.

    Args:
        options: ``id_rule``, and ``image_name``, the name of an image with a number, such as
            ``COCO_val2014_{:012d}.jpg``; without it, the file has the names themselves.

    Returns:
        A function that raises `NoImageError` where the name gives no id.
    """
    rule = options.get("id_rule", "stem")
    pattern = options.get("image_name", "")

    def name(image: str) -> str:
        try:
            return image_ids([pattern.format(int(image)) if pattern else image], rule)[0]
        except ValueError as error:
            raise NoImageError(f"the image is {image!r:.60}") from error

    return name


def examples(
    entries: Iterable[Mapping[str, Any]],
    make: Callable[[Mapping[str, Any]], Example],
    path: str,
    problems: Problems,
) -> Iterator[Example]:
    """Make an example of each entry; those that lack something are counted and passed over.

    Args:
        entries: What the file has.
        make: Gives the example of an entry, or raises `LackError`.
        path: The file, for messages.
        problems: Gets what is wrong, by the error's kind.

    Raises:
        ValueError: Not one of several entries makes an example: the file is of another form.
    """
    good = bad = 0
    first: Mapping[str, Any] = {}
    reason = ""
    for number, entry in enumerate(entries, 1):
        try:
            example = make(entry)
        except _MISSHAPEN as error:
            bad += 1
            kind = error.kind if isinstance(error, LackError) else LackError.kind
            said = str(error) if isinstance(error, LackError) else f"misshapen ({error!r:.60})"
            if bad == 1:
                first, reason = entry, said
            problems.add(kind, f"entry {number} of {short_name(path)}: {said}")
            continue
        good += 1
        yield example
    if bad > 1 and not good:
        raise ValueError(
            f"{path} is of another form: not one of its {bad:,} entries makes an example; "
            f"the first has {reason}, and the keys {', '.join(list(first)[:8])}"
        )
