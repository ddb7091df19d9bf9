"""Text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vlray.settings.secrets import printable


def align(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Align cells in columns, two spaces apart, without trailing spaces.

    Args:
        rows: Cells of each row, including the header. All rows have the same number of cells.
        right: Whether to right-align all columns except the first, as for numbers.

    Returns:
        One line per row.

    Raises:
        ValueError: A row has more or fewer cells than the first.
    """
    # Names of files and classes come from outside, and a terminal would act on control characters.
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
