"""Read JSON and text files of any size; broken entries are counted and skipped."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import ijson

from vlray.storage import files
from vlray.tasks.layouts.json_text import JsonText
from vlray.tasks.problems import Problems

Entry = Mapping[str, Any]
"""An entry of an official file, as parsed: any field may be missing or have the wrong type."""

KEYS_SHOWN = 8
# Object storage is faster with few large reads.
BUFFER_BYTES = 1 << 20
NOT_UTF8 = "a byte there is not UTF-8; convert the file, such as with iconv -f latin1 -t UTF-8"


def open_bytes(path: str) -> io.BufferedReader:
    """Open a file for sequential reading; decompress ``.gz`` and ``.bz2`` files.

    Args:
        path: A local path or a URI.

    Raises:
        OSError: The file is missing or unreadable, or its storage cannot be reached.
    """
    fs, name = files.resolve(path)
    with files.explained(path):
        return io.BufferedReader(fs.open_input_stream(name), BUFFER_BYTES)


def short_name(path: str) -> str:
    """Return the last component of a path, for messages."""
    return files.parent(path)[1]


def items(path: str, prefix: str, problems: Problems) -> Iterator[Entry]:
    """Yield the objects of a list inside a JSON document.

    From a truncated or broken document, yield the entries before the fault, which is counted as
    ``cut-off``. Entries that are not objects are counted and skipped. NaN and infinities are read
    as null.

    Args:
        path: A local path or a URI.
        prefix: Location of the entries in ijson's notation: ``annotations.item`` for the list
            under ``annotations``, ``item`` if the document itself is a list.
        problems: Object in which faults are counted, as ``broken-line`` or ``cut-off``.

    Raises:
        ValueError: The document has no such list, or is not JSON.
    """
    with open_bytes(path) as stream:
        text = JsonText(stream, path)
        # By default, ijson reads fractions as Decimal.
        pairs = ((None, value) for value in ijson.items(text, prefix, use_float=True))
        for _, entry in _objects(path, prefix, pairs, problems):
            yield entry


def entries(path: str, prefix: str, problems: Problems) -> Iterator[tuple[str, Entry]]:
    """Yield the keys and values of a JSON object whose values are objects.

    Faults are handled as in `items`, which also describes the errors raised.

    Args:
        path: A local path or a URI.
        prefix: Location of the object whose values are the entries. Empty: the document itself.
        problems: Object in which faults are counted, as ``broken-line`` or ``cut-off``.
    """
    with open_bytes(path) as stream:
        pairs = ijson.kvitems(JsonText(stream, path), prefix, use_float=True)
        for key, entry in _objects(path, prefix, pairs, problems):
            assert key is not None
            yield key, entry


def _objects(
    path: str, prefix: str, pairs: Iterator[tuple[str | None, object]], problems: Problems
) -> Iterator[tuple[str | None, Entry]]:
    count = 0
    broken = False
    where = prefix.removesuffix("item").rstrip(".")
    try:
        for key, value in pairs:
            count += 1
            if isinstance(value, dict):
                yield key, value
            else:
                problems.add(
                    "broken-line",
                    f"entry {count} of {where or 'the list'} in {short_name(path)} is "
                    f"a {type(value).__name__}",
                )
    except ijson.JSONError as error:
        # Without a single entry, the file is not a broken document but another kind of file.
        if not count:
            keys = ", ".join(first_keys(path)) or "none"
            raise ValueError(
                f"{path} is not such a JSON document: {_reason(error)} (its first keys: {keys})"
            ) from error
        broken = True
        problems.add(
            "cut-off",
            f"{short_name(path)} breaks off after {count:,} entries"
            f"{f' of {where}' if where else ''}: {_reason(error)}",
        )
    # No entries: either the list is empty, or the document has another layout.
    if not count and not broken:
        _check_form(path, where, is_list=prefix.endswith("item"))


def _reason(error: ijson.JSONError) -> str:
    """Return the first line of the parser's message; the other lines only quote the document."""
    message = error.args[0] if error.args else ""
    if isinstance(message, bytes):  # the document is not UTF-8, so neither is the message
        return NOT_UTF8
    return str(message).strip().partition("\n")[0]


def _check_form(path: str, where: str, *, is_list: bool) -> None:
    """Check that a document without entries has a list or object at ``where``.

    Raises:
        ValueError: The document has no list or object there.
    """
    # Read the file again: to the first pass, an empty list and a missing key look the same.
    opened = "start_array" if is_list else "start_map"
    with open_bytes(path) as stream:
        for prefix, event, _ in ijson.parse(JsonText(stream, path)):
            if prefix == where and event == opened:
                return
    kind = "a list" if is_list else "an object"
    location = f"under {where!r}" if where else "as the whole document"
    keys = first_keys(path)
    raise ValueError(
        f"{path} is not in the expected format: expected {kind} {location}, "
        f"found {'the keys ' + ', '.join(keys) if keys else 'no keys at all'}"
    )


def first_keys(path: str) -> tuple[str, ...]:
    """Return the first keys of a JSON document, or of its first entry if it is a list.

    The keys help to recognize the layout. The result is empty if the file is not JSON or has no
    keys.
    """
    keys: list[str] = []
    with open_bytes(path) as stream:
        try:
            for prefix, event, value in ijson.parse(JsonText(stream, path)):
                if event == "map_key" and prefix in ("", "item"):
                    keys.append(str(value))
                if len(keys) == KEYS_SHOWN or (keys and (prefix, event) == ("item", "end_map")):
                    break
        except ijson.JSONError:
            pass  # the keys before the fault are enough for a message
    return tuple(keys)


def lines(path: str, problems: Problems, *, keep_end: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines of a UTF-8 text file, each with its number, from 1.

    Lines that are not UTF-8 are counted and skipped. A byte order mark is removed.
    """
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                problems.add("broken-line", f"line {number} of {short_name(path)}: {error.reason}")
                continue
            if text.strip():
                yield number, text if keep_end else text.rstrip("\r\n")


def json_lines(path: str, problems: Problems) -> Iterator[Entry]:
    """Yield the objects in a file with one JSON object per line; count and skip other lines.

    A broken last line is counted as ``cut-off`` if it lacks its newline.

    Raises:
        ValueError: No line is a JSON object.
    """
    seen = good = 0
    first_bad = ""
    for number, text in lines(path, problems, keep_end=True):
        seen += 1
        try:
            # NaN and infinities become null, as in `JsonText`.
            entry = json.loads(text, parse_constant=lambda _: None)
            reason = "" if isinstance(entry, dict) else f"it is a {type(entry).__name__}"
        except ValueError as error:
            reason = str(error)
        except RecursionError:
            reason = "it is nested too deeply"
        if not reason:
            good += 1
            yield entry
            continue
        first_bad = first_bad or f"line {number}: {reason}"
        kind = "broken-line" if text.endswith("\n") else "cut-off"
        problems.add(kind, f"line {number} of {short_name(path)}: {reason}")
    # An empty file is valid.
    if seen and not good:
        keys = ", ".join(first_keys(path)) or "none"
        raise ValueError(
            f"{path} is not in the expected format: expected a JSON object on each line, found "
            f"{first_bad} (keys of the document: {keys})"
        )
