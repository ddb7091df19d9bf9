"""Class and attribute names of VinVL's detector, from the JSON file published with its weights."""

from __future__ import annotations

import json
from pathlib import Path

Names = tuple[str, ...]


def read_label_map(path: Path) -> tuple[Names, Names]:
    """Read the names of classes and attributes, in the order of their ids.

    Args:
        path: A JSON file with ``label_to_idx`` and, for weights with attributes,
            ``attribute_to_idx``; both count from 1. Source: VG-SGG-dicts-vgoi6-clipped.json.

    Raises:
        ValueError: The file cannot be read, or its ids are not 1, 2, 3 and so on.
    """
    try:
        content = json.loads(path.read_bytes())
        ids = content["label_to_idx"], content.get("attribute_to_idx", {})
        objects, attributes = (_in_order(names) for names in ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"--detector.labels {path} is not VinVL's label map ({error!r}); pass "
            "VG-SGG-dicts-vgoi6-clipped.json, which has label_to_idx and attribute_to_idx"
        ) from error
    return objects, attributes


def check_numbers(names: tuple[Names, Names], objects: int, attributes: int, path: Path) -> None:
    """Check that a label map has a name for each class and attribute of the network.

    Raises:
        ValueError: It has more or fewer; the message has both numbers.
    """
    for kind, of_kind, expected in (
        ("object", names[0], objects),
        ("attribute", names[1], attributes),
    ):
        if len(of_kind) != expected and expected:
            raise ValueError(
                f"--detector.labels {path} names {len(of_kind):,} {kind} classes, but the weights "
                f"have {expected:,}; pass the label map that was published with the weights"
            )


def _in_order(names: dict[str, int]) -> Names:
    ordered = sorted(names, key=lambda name: names[name])
    if [names[name] for name in ordered] != list(range(1, len(ordered) + 1)):
        raise ValueError("its ids must be 1, 2, 3 and so on, each once")
    return tuple(map(str, ordered))
