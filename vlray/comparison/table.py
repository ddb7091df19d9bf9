"""Tables of a comparison, for the terminal and the page."""

from __future__ import annotations

import math

from vlray.comparison.overall import OverallMetrics
from vlray.comparison.result import Comparison
from vlray.comparison.sides import Side
from vlray.comparison.spread import Spread
from vlray.settings.text_table import align

COLUMNS = ("mean", "median", "95 %", "99 %", "worst")
"""Column headings of ``spread_rows``; 95 % of the pairs reach the value under ``95 %``."""

_LISTED = 3  # image ids listed on the terminal
_WIDEST = 48  # maximum width of a value on the terminal, characters


def table(result: Comparison) -> str:
    """Format a comparison as lines of text."""
    lines = []
    for side in (result.a, result.b):
        about = f"{side.facts['detector'] or 'an unnamed detector'}, {_features(side)}"
        lines.append(f"{side.letter}  {side.output.path}  ({about})")
    if result.differences:
        lines += ["", *align([("difference", "A", "B"), *map(_shortened, result.differences)])]
    lines += ["", *align(count_rows(result))]
    rows = spread_rows(result.overall)
    if rows:
        lines += ["", *align([("of matched boxes", *COLUMNS), *rows], right=True)]
    lines += ["", *notes(result)]
    return "\n".join(lines)


def count_rows(result: Comparison) -> list[tuple[str, str]]:
    """Return the counts of images, boxes and pairs, each with its name."""
    overall = result.overall
    rows = [("images on both sides", f"{overall.images:,}")]
    for letter, ids in (("A", result.only_a), ("B", result.only_b)):
        if ids:
            some = ", ".join(list(ids)[:_LISTED])
            more = ", ..." if len(ids) > _LISTED else ""
            # A few ids show which images are meant; compare.json lists all of them.
            rows.append((f"images only in {letter}", f"{len(ids):,}: {some}{more}"))
    if overall.other_size:
        rows.append(("images that differ in size", _of(overall.other_size, overall.images)))
    rows.append(("identical images", _of(overall.identical, overall.images)))
    rows.append(("boxes in A with a partner in B", _of(overall.matched, overall.boxes_a)))
    rows.append(("boxes in B with a partner in A", _of(overall.matched, overall.boxes_b)))
    for step, pairs in overall.matched_at.items():
        rows.append((f"boxes of both at IoU >= {step:g}", percent(overall.share(pairs))))
    if overall.classes:
        rows.append(("pairs with the same class", _of(overall.same_class, overall.classes)))
    if overall.attributes:
        attributes = _of(overall.same_attribute, overall.attributes)
        rows.append(("pairs with the same attribute", attributes))
    return rows


def spread_rows(overall: OverallMetrics) -> list[tuple[str, ...]]:
    """Return one row of text per metric of the matched boxes: the name, then ``COLUMNS``."""
    rows = []
    for name, spread, similarity in (
        ("IoU", overall.iou, True),
        ("feature cosine", overall.cosine, True),
        ("feature relative L2", overall.rel_l2, False),
        ("  due to float16 rounding", overall.rounding, False),
        ("score difference", overall.score_diff, False),
    ):
        if spread.count:
            texts = (cosine_text(v) if similarity else _short(v) for v in _values(spread))
            rows.append((name, *texts))
    return rows


def notes(result: Comparison) -> list[str]:
    """Return notes on how to read the metrics, one sentence each."""
    lines = []
    if result.identical:
        lines.append("A and B are identical: the same images with bitwise equal regions.")
    for kind, reason in result.reasons.items():
        lines.append(f"{kind} are not compared: {reason}.")
    overall = result.overall
    # The percentiles of identical outputs need no explanation.
    if overall.matched and not result.identical:
        lines.append(
            "Columns 95 % and 99 %: this share of the pairs reaches the value in the column or a "
            "better one."
        )
    if overall.rounding.count:
        lines.append(
            "One side is stored as float16: the table lists how much of the difference rounding "
            "explains."
        )
    elif overall.rel_l2.count and result.a.dtype == "float16":
        lines.append(
            "Both sides are stored as float16: differences below 2e-4 are lost to rounding."
        )
    if overall.score_diff.worst:
        shift = overall.score_shift / overall.score_diff.count
        lines.append(
            f"B's scores are {abs(shift):.4f} {'above' if shift > 0 else 'below'} A's on average."
        )
    if overall.other_size:
        lines.append("Where A and B have different image sizes, B's boxes were scaled to A's size.")
    return lines


def _features(side: Side) -> str:
    return f"{side.feature_dim} x {side.dtype}" if side.feature_dim else "boxes only"


def percent(share: float) -> str:
    """Format a fraction as a percentage; only a fraction of exactly 1 becomes 100 %."""
    text = f"{100 * share:.1f} %"
    return "99.9 %" if text == "100.0 %" and share < 1 else text


def cosine_text(distance: float) -> str:
    """Format ``1 - distance`` with enough digits to distinguish it from 1."""
    if distance <= 0:
        return "1"
    # One digit beyond the leading nines: 1 - 2e-6 becomes 0.9999980.
    digits = min(max(math.ceil(-math.log10(distance)) + 1, 3), 12)
    return f"{1 - distance:.{digits}f}"


def _values(spread: Spread) -> tuple[float, ...]:
    percentiles = (spread.percentile(share) for share in (0.5, 0.95, 0.99))
    return (spread.mean, *percentiles, spread.worst)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({percent(count / total)})" if total else "0 of 0"


def _shortened(row: tuple[str, str, str]) -> tuple[str, ...]:
    """Shorten the values of a row so that hashes and paths can still be told apart."""
    return (row[0], *(_cut(value) for value in row[1:]))


def _cut(value: str) -> str:
    # A SHA-256 is recognizable by its first digits.
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    return value if len(value) <= _WIDEST else f"{value[:20]}...{value[-25:]}"
