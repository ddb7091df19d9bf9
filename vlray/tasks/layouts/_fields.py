"""Read fields, derive image ids and convert entries to examples, for the layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from vlray.images.ids import image_ids
from vlray.tasks.example import Example
from vlray.tasks.layouts.documents import Entry, short_name
from vlray.tasks.problems import Problems


class FieldError(ValueError):
    """Raised if a field of an entry is missing or invalid; the message names the field."""

    kind = "incomplete"


class NoImageError(FieldError):
    """Raised if an entry has no valid image."""

    kind = "no-image"


_MALFORMED = (FieldError, KeyError, IndexError, TypeError, AttributeError, ValueError)
"""Errors that may be raised while reading an entry with an unexpected structure."""


def text_of(entry: Entry, key: str) -> str:
    """Return a required text field, without surrounding whitespace.

    Raises:
        FieldError: The field is missing, empty or not a string.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise FieldError(f"no {key}" if value is None else f"{key} is {value!r:.40}")
    return value.strip()


def id_of(entry: Entry, key: str) -> str:
    """Return an id, which may be a number or a string in the file.

    Raises:
        FieldError: The field is missing or empty, or has the wrong type.
    """
    value = entry.get(key)
    # bool is a subclass of int, but never an id.
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise FieldError(f"no {key}" if value is None else f"{key} is {value!r:.40}")
    return str(value)


def answer_of(value: object) -> str:
    """Return an answer, which may be a string, a number or a truth value in the file.

    Raises:
        FieldError: The value has another type.
    """
    if not isinstance(value, str | int | float):
        raise FieldError(f"an answer is {value!r:.40}")
    return str(value)


def image_of(entry: Entry, key: str) -> str:
    """Return the name or number of the entry's image.

    Raises:
        NoImageError: The field is missing or empty, or has the wrong type.
    """
    try:
        return id_of(entry, key)
    except FieldError as error:
        raise NoImageError(*error.args) from error


def about(entry: Entry, *keys: str) -> dict[str, str]:
    """Return the fields among ``keys`` that the entry has, as stripped strings."""
    return {key: str(entry[key]).strip() for key in keys if entry.get(key) not in (None, "")}


def image_namer(options: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that derives image ids from names or numbers.

    Args:
        options: ``id_rule``, and optionally ``image_name``: a pattern that turns an image number
            into a file name, such as ``COCO_val2014_{:012d}.jpg``. Without a pattern, entries
            contain the file names.

    Returns:
        The function. It raises `NoImageError` if the rule does not apply to a name.
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
    entries: Iterable[Entry],
    make: Callable[[Entry], Example],
    path: str,
    problems: Problems,
) -> Iterator[Example]:
    """Convert entries to examples; count and skip faulty entries.

    Args:
        entries: Entries of the file.
        make: Function that converts an entry to an example, or raises `FieldError`.
        path: Path of the file, for messages.
        problems: Object in which faulty entries are counted, under the ``kind`` of the error.

    Raises:
        ValueError: The file has several entries and all are faulty, so its format is wrong.
    """
    good = bad = 0
    first: Entry = {}
    reason = ""
    for number, entry in enumerate(entries, 1):
        try:
            example = make(entry)
        except _MALFORMED as error:
            bad += 1
            kind = error.kind if isinstance(error, FieldError) else FieldError.kind
            fault = str(error) if isinstance(error, FieldError) else f"malformed ({error!r:.60})"
            # The first fault explains what is wrong if the whole file has another format.
            if bad == 1:
                first, reason = entry, fault
            problems.add(kind, f"entry {number} of {short_name(path)}: {fault}")
            continue
        good += 1
        yield example
    # A file with a single faulty entry may be a small but valid file.
    if bad > 1 and not good:
        raise ValueError(
            f"{path} is not in the expected format: none of its {bad:,} entries is an example. "
            f"In the first entry: {reason}; it has the keys {', '.join(list(first)[:8])}"
        )
