"""The whole comparison: open, join, measure, and write what was found."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from typing import IO

from tqdm import tqdm

from vlray.comparison.join import join
from vlray.comparison.metrics import compare_image
from vlray.comparison.page import render
from vlray.comparison.result import Comparison, as_dict
from vlray.comparison.sides import Side, differences, explain_disjoint, open_side, what_compares
from vlray.comparison.tally import Tally
from vlray.comparison.worst import Worst
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
) -> Comparison:
    """Compare two outputs of the same images, box by box.

    Boxes are matched one to one, greedily by falling IoU. With a ``report`` the folder gets
    ``compare.json`` and, for ``worst`` above 0, the page ``compare.html``. The JSON holds:

    - ``schema`` (1), ``vlray_version``, ``iou_thresh``, ``splits``, ``identical``;
    - ``a`` and ``b``: ``path``, ``images``, and ``facts``, what each says about its origin;
    - ``differences``: of these facts, a list of ``{name, a, b}``;
    - ``not_compared``: why ``features``, ``classes`` or ``attributes`` were not, by name;
    - ``images``: ``both``, ``identical``, ``other_size``, ``only_a``, ``only_b`` (counts);
    - ``only_a`` and ``only_b``: ``{image_id: what the other side says}``;
    - ``overall``: ``boxes_a``, ``boxes_b``, ``images_with_more_boxes_in_a``,
      ``images_with_more_boxes_in_b``, ``matched``, ``matched_share`` (of both sides' boxes),
      ``matched_share_a``, ``matched_share_b``, ``matched_share_at_iou``, and spreads: ``iou`` and
      ``cosine`` (``mean``, ``median``, ``p5``, ``p1``, ``min``), ``rel_l2``,
      ``rel_l2_of_rounding`` and ``score_diff`` (absolute; ``mean``, ``median``, ``p95``, ``p99``,
      ``max``), ``score_shift_mean`` (B minus A), ``same_class``, ``same_class_share``,
      ``same_attribute``, ``same_attribute_share``; null for what was not compared. Percentiles
      are within 0.5 % of the distance from what is perfect, all else is exact;
    - ``per_image``: a list in A's order, one image a line: ``image_id`` and the fields of
      `Figures.as_row`.

    Args:
        a: Folder or URI of the reference.
        b: Folder or URI of the other output.
        report: Folder or URI for the report; empty: none is written.
        split: Only images of these splits; empty means all.
        iou_thresh: Least IoU of a pair of boxes.
        worst: Images on the page for each of its orders.
        images_root: Where the images are now; where they were at the extraction, if empty.

    Raises:
        ValueError: One of them is no output, is empty, or no image is in both.
        OSError: A file cannot be read or written.
    """
    side_a, side_b = open_side("A", a, split), open_side("B", b, split)
    ids_a, ids_b = set(side_a.image_ids), set(side_b.image_ids)
    both = ids_a & ids_b
    if not both:
        raise ValueError(explain_disjoint(side_a, side_b))
    comparable, reasons = what_compares(side_a, side_b)
    result = Comparison(
        a=side_a,
        b=side_b,
        differences=differences(side_a, side_b),
        comparable=comparable,
        reasons=reasons,
        only_a={i: _absent(side_b, i) for i in side_a.image_ids if i not in both},
        only_b={i: _absent(side_a, i) for i in side_b.image_ids if i not in both},
        overall=Tally(iou_thresh),
        worst=Worst(worst if report else 0),
        splits=tuple(split),
    )
    # One line for each image: on disk, not in memory, until all of them are known.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        with tqdm(total=len(both), unit="image", desc="compare", disable=None) as progress:
            for image in join(side_a, side_b, both, features=comparable.features):
                figures = compare_image(image.a, image.b, comparable, iou_thresh)
                result.overall.add(figures)
                result.worst.add(image, figures)
                lines.write(",\n" if result.overall.images > 1 else "")
                row = {"image_id": image.image_id, **figures.as_row()}
                lines.write(json.dumps(row, allow_nan=False))
                progress.update()
        if report:
            _write(result, report, lines, images_root, with_page=worst > 0)
    return result


def _absent(side: Side, image_id: str) -> str:
    return side.failures.get(image_id, "not in it")


def _write(
    result: Comparison, report: str, lines: IO[str], images_root: str, *, with_page: bool
) -> None:
    fs, folder = files.resolve(report)
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
            "%d images of the page cannot be read and are shown by a placeholder, the first: %s; "
            "--images-root says where they are now",
            len(problems),
            problems[0],
        )
