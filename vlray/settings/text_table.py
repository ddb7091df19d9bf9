"""Rows of text in aligned columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Align rows in columns two spaces apart; no line ends with spaces.

    Args:
        rows: Cells of each row, the headings included; all rows have the same number of cells.
        right: Whether all columns but the first are aligned to the right, as numbers are.

    Returns:
        A line for each row.

    Raises:
        ValueError: A row has more or fewer cells than the first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
