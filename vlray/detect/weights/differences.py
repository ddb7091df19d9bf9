"""Error messages about weights that do not fit a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlray.settings.wording import counted

_LISTED = 8  # maximum number of tensor names in an error message


def refuse_differences(
    path: Path,
    shapes: Sequence[str],
    missing: Sequence[str],
    unexpected: Sequence[str],
    advice: str,
) -> None:
    """Refuse weights that differ from their network.

    Args:
        path: The weights file.
        shapes: Descriptions of tensors with the wrong shape.
        missing: Names of tensors that the file lacks.
        unexpected: Names of tensors that the network lacks.
        advice: Last sentence of the message.

    Raises:
        ValueError: One of the lists is not empty.
    """
    problems = [
        f"{problem} ({counted(len(names), 'tensor')}): {', '.join(names[:_LISTED])}"
        + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        for problem, names in (
            ("wrong shape", shapes),
            ("missing from the file", missing),
            ("not part of the network", unexpected),
        )
        if names
    ]
    if problems:
        raise ValueError(
            f"the weights {path} do not fit the configuration:\n  "
            + "\n  ".join(problems)
            + f"\n{advice}"
        )
