"""The part of a test's page that needs no script: the header, and the tables of figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vlray.evaluation.report import Figure, interval_text, is_percent, number

HEADLINES = 4


def header(name: str, subtitle: str, figures: Sequence[Figure], count: int) -> str:
    """Lay out the head of the page: what was tested, its first figures, the examples' number."""
    overall = [figure for figure in figures if not figure.group][:HEADLINES]
    totals = [_total(figure.name, number(figure), interval_text(figure)) for figure in overall]
    return (
        f'<div class="name"><h1>{escape(name)}</h1><p id="subtitle">{escape(subtitle)}</p></div>\n'
        f'<dl id="totals">{"".join(totals)}{_total("examples", f"{count:,}", "")}</dl>'
    )


def tables(figures: Sequence[Figure], notes: Sequence[str], baseline: str) -> str:
    """Lay out every figure with its interval, a table for each kind of group.

    The script draws a bar into each cell that has a ``data-value``.

    Args:
        figures: Overall first, then by group.
        notes: What is to be known of them.
        baseline: Heading of the column of ``Figure.baseline``; empty: there is none.
    """
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        name = f"By {figure.group.replace('_', ' ')}" if figure.group else "Overall"
        groups.setdefault(name, []).append(figure)
    said = "".join(f'<p class="quiet">{escape(note)}</p>\n' for note in notes)
    if not groups:
        return f'{said}<p class="empty">Nothing was measured.</p>'
    headings = ["", "Value", "95 % interval", "n", *([baseline] if baseline else []), ""]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return said + "\n".join(
        f'<h3>{escape(name)}</h3>\n<div class="scroll"><table class="figures-table">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(_row(figure, bool(baseline)) for figure in rows)
        + "</tbody></table></div>"
        for name, rows in groups.items()
    )


def _total(name: str, value: str, interval: str) -> str:
    drawn = f'<span class="interval">{escape(interval)}</span>' if interval else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{drawn}</dd></div>"


def _row(figure: Figure, has_baseline: bool) -> str:
    count = f"{figure.count:,}" if figure.count else ""
    cells = [figure.name, number(figure), interval_text(figure), count]
    if has_baseline:
        cells.append("" if figure.baseline is None else number(figure, figure.baseline))
    bar = ""
    if is_percent(figure):
        low, high = figure.interval or (figure.value, figure.value)
        bar = f' data-value="{figure.value:.2f}" data-low="{low:.2f}" data-high="{high:.2f}"'
    texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr>{texts}<td class="bar-cell"{bar}></td></tr>'
