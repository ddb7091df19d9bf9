"""What a comparison finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlray.comparison.metrics import Comparable
from vlray.comparison.sides import Side
from vlray.comparison.tally import Tally
from vlray.comparison.worst import Worst
from vlray.version import __version__

SCHEMA = 1
"""Of ``compare.json``; a key that is renamed or changes its meaning raises it."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Attributes:
        a: The reference.
        b: The other side.
        differences: Where their origins differ: name, what A says, what B says.
        comparable: What was compared beside the boxes.
        reasons: Why ``features``, ``classes`` or ``attributes`` were not.
        only_a: Images without a row on side B, and what B says of them.
        only_b: Images without a row on side A, likewise.
        overall: The figures of all images together.
        worst: The worst images.
        splits: Those that were asked for; empty means all.
    """

    a: Side
    b: Side
    differences: list[tuple[str, str, str]]
    comparable: Comparable
    reasons: dict[str, str]
    only_a: dict[str, str]
    only_b: dict[str, str]
    overall: Tally
    worst: Worst
    splits: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both sides hold the same images with the same regions, bit for bit."""
        return self.overall.identical == self.overall.images and not self.only_a and not self.only_b


def as_dict(result: Comparison) -> dict[str, Any]:
    """Give all but the single images in plain values, as ``compare.json`` has them."""
    overall = result.overall
    return {
        "schema": SCHEMA,
        "vlray_version": __version__,
        "iou_thresh": overall.iou_thresh,
        "splits": list(result.splits),
        "identical": result.identical,
        **{
            side.letter.lower(): {
                "path": side.output.path,
                "images": len(side.image_ids),
                "facts": side.facts,
            }
            for side in (result.a, result.b)
        },
        "differences": [
            {"name": name, "a": of_a, "b": of_b} for name, of_a, of_b in result.differences
        ],
        "not_compared": result.reasons,
        "images": {
            "both": overall.images,
            "identical": overall.identical,
            "other_size": overall.other_size,
            "only_a": len(result.only_a),
            "only_b": len(result.only_b),
        },
        "only_a": result.only_a,
        "only_b": result.only_b,
        "overall": overall.as_dict(),
    }
