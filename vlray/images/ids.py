"""Derive image ids from file names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from vlray.storage.files import is_uri

_COCO = re.compile(r"[0-9]+$")


def image_ids(
    paths: Sequence[str],
    rule: str,
    is_id: Sequence[bool] | None = None,
    shown: Sequence[str] | None = None,
) -> list[str]:
    """Derive the id of each image from its path.

    Args:
        paths: Paths relative to the image root (with ``/``), absolute paths, or URIs.
        rule: ``stem`` (file name without folder and extension), ``path`` (path without
            extension), ``key`` (WebDataset's ``__key__``: path up to the first dot of the file
            name), ``coco`` (the number at the end of the stem, without leading zeros), or
            ``regex:PATTERN`` (searched for in the path; the id is the group ``id``, else the
            first group, else the whole match).
        is_id: Whether each path is an id from a column, which ``stem``, ``path`` and ``key`` keep.
        shown: Names of the images in error messages; None: the paths.

    Returns:
        One id per path, in the order of the paths. All ids are different.

    Raises:
        ValueError: The rule is unknown, does not apply to a path, or derives the same id from
            two paths.
    """
    name = _namer(rule)
    ids = [name(path) for path in paths]
    if is_id is not None and rule in ("stem", "path", "key"):
        ids = [path if one else own for path, one, own in zip(paths, is_id, ids, strict=True)]
    if len(set(ids)) < len(ids):
        raise ValueError(_describe_collisions(shown or paths, ids, rule))
    return ids


def _namer(rule: str) -> Callable[[str], str]:
    """Return the function that maps a path to its id."""
    if rule == "stem":
        return _stem
    if rule == "path":
        return lambda path: posixpath.splitext(_plain(path))[0]
    if rule == "key":
        return _key
    if rule == "coco":
        return _coco
    kind, _, pattern = rule.partition(":")
    if kind == "regex" and pattern:
        return _by_pattern(pattern)
    raise ValueError(f"id rule {rule!r} is unknown; choose stem, path, key, coco or regex:PATTERN")


def _plain(path: str) -> str:
    """Strip the options from a URI and decode percent escapes; return other paths unchanged."""
    return unquote(path.partition("?")[0]) if is_uri(path) else path


def _stem(path: str) -> str:
    # Called for each of millions of paths: plain string operations are faster than posixpath.
    if "://" in path:
        path = _plain(path)
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    # A leading dot begins a name, not an extension.
    return name[:dot] if dot > 0 else name


def _key(path: str) -> str:
    folder, slash, name = _plain(path).rpartition("/")
    # A name that begins with a dot is hidden and never listed.
    return folder + slash + name.partition(".")[0]


def _coco(path: str) -> str:
    match = _COCO.search(_stem(path))
    if match is None:
        raise ValueError(
            f"{path!r} has no number at the end of its name, so id rule coco does not apply; "
            "use --images.id-rule stem, path or regex:PATTERN"
        )
    return match[0].lstrip("0") or "0"


def _by_pattern(pattern: str) -> Callable[[str], str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"id rule regex:{pattern} is not a valid pattern: {error}") from error
    # Without any group in the pattern, group 0: the whole match.
    group: int | str = "id" if "id" in compiled.groupindex else min(compiled.groups, 1)

    def name(path: str) -> str:
        match = compiled.search(path)
        if match is None or not match[group]:
            fault = "is not matched by" if match is None else "gets an empty id from"
            raise ValueError(
                f"{path!r} {fault} id rule regex:{pattern}; widen the pattern, or use "
                "--images.id-rule stem or path"
            )
        return match[group]

    return name


def _describe_collisions(paths: Sequence[str], ids: Sequence[str], rule: str) -> str:
    first: dict[str, str] = {}
    pairs = []
    for path, image_id in zip(paths, ids, strict=True):
        if image_id in first:
            pairs.append((first[image_id], path, image_id))
        first.setdefault(image_id, path)
    one, other, image_id = pairs[0]
    more = f" ({len(pairs) - 1:,} more files also repeat an id)" if pairs[1:] else ""
    way_out = "regex:(.+)" if rule == "path" else "path"
    return (
        f"{one!r} and {other!r} both get the image id {image_id!r} from id rule {rule}{more}; "
        f"make the ids unique with --images.id-rule '{way_out}'"
    )
