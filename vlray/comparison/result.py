"""The result of a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from vlray.comparison.metrics import Comparable
from vlray.comparison.overall import OverallMetrics
from vlray.comparison.sides import Side
from vlray.comparison.worst import Worst
from vlray.settings.json_value import JsonObject
from vlray.version import __version__

SCHEMA = 1
"""Schema version of ``compare.json``; incremented when a key is renamed or changes meaning."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of `compare`.

    Attributes:
        a: The reference output.
        b: The other output.
        differences: Provenance facts that differ: name, value in A, value in B.
        comparable: Columns that were compared besides the boxes.
        reasons: Why ``features``, ``classes`` or ``attributes`` were not compared, keyed by these
            names.
        only_a: Why B lacks each image that only A has, keyed by image id.
        only_b: Why A lacks each image that only B has, keyed by image id.
        overall: Metrics over all images.
        worst: The images that differ most, for each sort order of the page.
        splits: Compared splits; empty means all.
    """

    a: Side
    b: Side
    differences: list[tuple[str, str, str]]
    comparable: Comparable
    reasons: dict[str, str]
    only_a: dict[str, str]
    only_b: dict[str, str]
    overall: OverallMetrics
    worst: Worst
    splits: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both sides hold the same images with bitwise equal regions."""
        return self.overall.identical == self.overall.images and not self.only_a and not self.only_b


def as_dict(result: Comparison) -> JsonObject:
    """Return the contents of ``compare.json`` without ``per_image``, in plain types."""
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
