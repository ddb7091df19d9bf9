"""Open two outputs, compare them image by image, and write the report."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO

from tqdm import tqdm

from vlray.comparison.join import join
from vlray.comparison.metrics import compare_image
from vlray.comparison.overall import OverallMetrics
from vlray.comparison.page import render
from vlray.comparison.result import Comparison, as_dict
from vlray.comparison.sides import (
    Side,
    comparable_columns,
    differences,
    explain_disjoint,
    open_side,
)
from vlray.comparison.worst import Worst
from vlray.settings.wording import counted
from vlray.storage import files

log = logging.getLogger("vlray.comparison")

JSON_NAME, PAGE_NAME = "compare.json", "compare.html"


def compare(
    a: str,
    b: str,
    *,
    report: str = "",
    split: Sequence[str] = (),
    iou_thresh: float = 0.5,
    worst: int = 20,
    images_root: str = "",
    imported: Mapping[str, str] = MappingProxyType({}),
) -> Comparison:
    """Compare two outputs of the same images, box by box.

    Boxes are matched one to one, greedily by descending IoU. If ``report`` is set,
    ``compare.json`` is written there, and the page ``compare.html`` if ``worst`` is above 0. The
    JSON file holds:

    - ``schema`` (1), ``vlray_version``, ``iou_thresh``, ``splits``, ``identical``;
    - ``a`` and ``b``: ``path``, ``images`` and ``facts`` (the provenance of the output);
    - ``differences``: the facts that differ, a list of ``{name, a, b}``;
    - ``not_compared``: why ``features``, ``classes`` or ``attributes`` were not compared, keyed by
      these names;
    - ``images``: ``both``, ``identical``, ``other_size``, ``only_a``, ``only_b`` (counts);
    - ``only_a`` and ``only_b``: why the other side lacks each image, as ``{image_id: reason}``;
    - ``overall``: ``boxes_a``, ``boxes_b``, ``images_with_more_boxes_in_a``,
      ``images_with_more_boxes_in_b``, ``matched``, ``matched_share`` (of both sides' boxes),
      ``matched_share_a``, ``matched_share_b``, ``matched_share_at_iou``, and distributions: ``iou``
      and ``cosine`` (``mean``, ``median``, ``p5``, ``p1``, ``min``), ``rel_l2``,
      ``rel_l2_of_rounding`` and ``score_diff`` (absolute; ``mean``, ``median``, ``p95``, ``p99``,
      ``max``), ``score_shift_mean`` (B minus A), ``same_class``, ``same_class_share``,
      ``same_attribute``, ``same_attribute_share``. Values that were not compared are null.
      Percentiles are accurate to 0.5 % of the distance from a perfect match; all other values
      are exact;
    - ``per_image``: one entry per image on both sides, in A's order: ``image_id`` and the fields
      of `ImageMetrics.as_row`.

    Args:
        a: Folder or URI of the reference.
        b: Folder or URI of the other output.
        report: Folder or URI for the report; empty: no report is written.
        split: Splits to compare; empty means all.
        iou_thresh: Minimum IoU of a matched pair of boxes.
        worst: Number of images on the page for each sort order.
        images_root: Folder or URI of the images; empty: the folder they were extracted from.
        imported: Outputs to read in the place of ``a`` or ``b``, by their names.

    Raises:
        ValueError: ``a`` or ``b`` is not an output or is empty, or they have no image in common.
        OSError: A file cannot be read or written.
    """
    side_a = open_side("A", a, split, imported.get(a, a))
    side_b = open_side("B", b, split, imported.get(b, b))
    # Images are joined by id alone: paths may differ between machines.
    ids_a, ids_b = set(side_a.image_ids), set(side_b.image_ids)
    both = ids_a & ids_b
    if not both:
        raise ValueError(explain_disjoint(side_a, side_b))
    comparable, reasons = comparable_columns(side_a, side_b)
    result = Comparison(
        a=side_a,
        b=side_b,
        differences=differences(side_a, side_b),
        comparable=comparable,
        reasons=reasons,
        only_a={i: _reason_absent(side_b, i) for i in side_a.image_ids if i not in both},
        only_b={i: _reason_absent(side_a, i) for i in side_b.image_ids if i not in both},
        overall=OverallMetrics(iou_thresh),
        # Only the page needs the worst images.
        worst=Worst(worst if report else 0),
        splits=tuple(split),
    )
    # Per-image rows go to a temporary file: memory must not grow with the number of images, and
    # the summary, which comes first in the JSON file, is complete only at the end.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        with tqdm(total=len(both), unit="image", desc="compare", disable=None) as progress:
            for image in join(side_a, side_b, both, features=comparable.features):
                metrics = compare_image(image.a, image.b, comparable, iou_thresh)
                result.overall.add(metrics)
                result.worst.add(image, metrics)
                # `overall` has already counted this image, so 1 is the first.
                lines.write(",\n" if result.overall.images > 1 else "")
                # allow_nan=False: NaN is not valid JSON.
                row = {"image_id": image.image_id, **metrics.as_row()}
                lines.write(json.dumps(row, allow_nan=False))
                progress.update()
        if report:
            _write(result, report, lines, images_root, with_page=worst > 0)
    return result


def _reason_absent(side: Side, image_id: str) -> str:
    return side.failures.get(image_id, "not in the output")


def _write(
    result: Comparison, report: str, lines: IO[str], images_root: str, *, with_page: bool
) -> None:
    fs, folder = files.resolve(report)
    # The JSON of the summary ends with "\n}": insert the rows before that, without parsing them.
    lines.seek(0)
    head = json.dumps(as_dict(result), indent=1, allow_nan=False).removesuffix("\n}")
    text = f'{head},\n "per_image": [\n{lines.read()}\n ]\n}}\n'
    files.write_atomic(fs, files.join(folder, JSON_NAME), text.encode())
    if not with_page:
        return
    page, problems = render(result, images_root)
    files.write_atomic(fs, files.join(folder, PAGE_NAME), page)
    if problems:
        log.warning(
            "cannot read %s for the page, replaced by placeholders; the first: %s. "
            "Pass --images-root to set where the images are now",
            counted(len(problems), "image"),
            problems[0],
        )
