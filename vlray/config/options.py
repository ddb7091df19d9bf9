"""The names of a command's options: which there are, and which one was most likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str, ...]
"""Where an option is: ``("detector", "min_boxes")``, written ``detector.min_boxes``."""


def options_of(model: type[BaseModel], section: Path = ()) -> dict[Path, FieldInfo]:
    """List every option of a command, those of its sections included."""
    options: dict[Path, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            options |= options_of(field.annotation, (*section, name))
        else:
            options[*section, name] = field
    return options


def is_mapping(field: FieldInfo) -> bool:
    """Say whether the option holds entries of the user's own naming."""
    return get_origin(field.annotation) is dict


def find_option(path: Path, options: Mapping[Path, FieldInfo]) -> Path | None:
    """Give the option that ``path`` is, or is an entry of where the option is a mapping."""
    if path in options:
        return path
    for length in range(1, len(path)):
        if path[:length] in options and is_mapping(options[path[:length]]):
            return path[:length]
    return None


def flatten(values: Mapping[str, Any], section: Path = ()) -> dict[Path, Any]:
    """Turn nested mappings into one of paths; ``nest`` is the way back."""
    flat: dict[Path, Any] = {}
    for key, value in values.items():
        path = (*section, str(key))
        if isinstance(value, Mapping):
            flat |= flatten(value, path)
        else:
            flat[path] = value
    return flat


def nest(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Turn paths into nested dictionaries."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        place = nested
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return nested


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the known dotted name closest to ``word``, by the whole name or by its last part."""
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(name.rpartition(".")[2], name)
        names[name] = name
    leaf = word.rpartition(".")[2]
    close = difflib.get_close_matches(word, names, n=1) or difflib.get_close_matches(
        leaf, names, n=1
    )
    return names[close[0]] if close else None
