"""The HTML page of a comparison: the worst images with the boxes of both sides, and all metrics."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlray.comparison.result import Comparison
from vlray.comparison.sides import Side
from vlray.comparison.table import COLUMNS, cosine_text, count_rows, notes, percent, spread_rows
from vlray.comparison.worst import ORDERS, BadImage, LabelledBoxes
from vlray.pages.labels import LEAST_ATTRIBUTE, name_of
from vlray.pages.pictures import Picture, read_thumbnails
from vlray.pages.render import Total, render_page
from vlray.settings.json_value import JsonObject, JsonValue

# Images of one side that the page lists; compare.json lists all.
ABSENT_LISTED = 1_000
SCRIPTS = (
    *(f"pages/js/{name}.js" for name in ("elements", "tabs", "pictures")),
    "comparison/page.js",
)


def render(result: Comparison, images_root: str) -> tuple[bytes, list[str]]:
    """Render the page.

    Args:
        result: The comparison with its worst images.
        images_root: Folder or URI of the images; empty: the folder they were extracted from.

    Returns:
        The page, and one message for each image that cannot be read.
    """
    images, orders = result.worst.images()
    pictures = _thumbnails(result, images, images_root)
    names = _names(result.a, result.b)
    data = {
        "names": names,
        "orders": [[ORDERS[name][0], indices] for name, indices in orders.items() if indices],
        "images": [
            _image(result, image, index, picture.thumbnail is None)
            for index, (image, picture) in enumerate(zip(images, pictures, strict=True))
        ],
    }
    page = render_page(
        "comparison/page.html",
        title="Comparison",
        heading="Comparison",
        subtitle=f"A: {names[0]} \u00b7 B: {names[1]}, {datetime.date.today().isoformat()}",
        totals=_totals(result),
        scripts=SCRIPTS,
        data=data,
        thumbnails=[picture.thumbnail for picture in pictures],
        images=len(images),
        orders=data["orders"],
        classes=result.comparable.objects,
        **_tables(result),
    )
    return page, [picture.problem for picture in pictures if picture.thumbnail is None]


def _thumbnails(result: Comparison, images: Sequence[BadImage], images_root: str) -> list[Picture]:
    """Read each image from its path in A or, if it cannot be read there, from its path in B."""
    pictures = read_thumbnails(result.a.output, [image.path_a for image in images], images_root)
    # An image may have moved or been deleted at one of the two paths only.
    unread = [index for index, picture in enumerate(pictures) if picture.thumbnail is None]
    paths = [images[index].path_b for index in unread]
    from_b = read_thumbnails(result.b.output, paths, images_root)
    for index, picture in zip(unread, from_b, strict=True):
        if picture.thumbnail is not None:
            pictures[index] = picture
    return pictures


def _totals(result: Comparison) -> list[Total]:
    overall = result.overall
    totals = [
        Total("images", f"{overall.images:,}"),
        Total("boxes with a partner", percent(overall.share(overall.matched))),
    ]
    if overall.cosine.count:
        totals.append(Total("median cosine", cosine_text(overall.cosine.percentile(0.5))))
    if overall.classes:
        totals.append(Total("same class", percent(overall.same_class / overall.classes)))
    return [*totals, Total("identical images", f"{overall.identical:,}")]


def _tables(result: Comparison) -> dict[str, Any]:
    """Collect the contents of the other tabs, keyed by template variable."""
    absent = [
        *((image_id, "A", why) for image_id, why in result.only_a.items()),
        *((image_id, "B", why) for image_id, why in result.only_b.items()),
    ]
    names = dict.fromkeys([*result.a.facts, *result.b.facts])
    return {
        "notes": notes(result),
        "columns": list(COLUMNS),
        "rows": spread_rows(result.overall),
        "counts": count_rows(result),
        "differing": len(result.differences),
        "provenance": [
            ("output", result.a.output.path, result.b.output.path),
            *((name, result.a.facts.get(name, ""), result.b.facts.get(name, "")) for name in names),
        ],
        "absent": absent[:ABSENT_LISTED],
        "absent_count": len(absent),
    }


def _names(a: Side, b: Side) -> list[str]:
    """Name each side by its folder, or by its whole path if both folders have the same name."""
    paths = [side.output.path.rstrip("/") for side in (a, b)]
    folders = [path.rpartition("/")[2] for path in paths]
    titles = paths if folders[0] == folders[1] else folders
    return [
        f"{name} ({detector})" if (detector := side.facts["detector"]) else name
        for name, side in zip(titles, (a, b), strict=True)
    ]


def _image(result: Comparison, image: BadImage, index: int, missing: bool) -> JsonObject:
    metrics, pairs = image.metrics, image.metrics.pairs
    distances, rel_l2 = metrics.cosine_distance, metrics.rel_l2
    return {
        "id": image.image_id,
        "path": image.path_a,
        "missing": missing,
        "thumbnail": index,
        # The script expects (width, height).
        "size": [[side.image_hw[1], side.image_hw[0]] for side in (image.a, image.b)],
        "metrics": metrics.as_row(),
        "sides": [_boxes(result.a, image.a), _boxes(result.b, image.b)],
        "pairs": [
            {
                "a": int(pairs.a[row]),
                "b": int(pairs.b[row]),
                "iou": float(pairs.iou[row]),
                "cosine": None if distances is None else float(distances[row]),
                "l2": None if rel_l2 is None else float(rel_l2[row]),
                "other": metrics.same_class is not None and not metrics.same_class[row],
            }
            for row in range(len(pairs))
        ],
    }


def _boxes(side: Side, regions: LabelledBoxes) -> list[list[JsonValue]]:
    """List the boxes as page.js expects them: corners, label, score, attribute, attribute score."""
    boxes = []
    # Rounding to a tenth of a pixel is invisible and keeps the page small.
    for row, box in enumerate(regions.boxes.astype(np.float64).round(1).tolist()):
        label, attribute = "", ""
        score, attribute_score = (
            None if values is None else round(float(values[row]), 4)
            for values in (regions.obj_probs, regions.attr_probs)
        )
        if regions.obj_ids is not None:
            label = name_of(int(regions.obj_ids[row]), side.output.obj_names)
        if regions.attr_ids is not None and (attribute_score or 0) >= LEAST_ATTRIBUTE:
            attribute = name_of(int(regions.attr_ids[row]), side.output.attr_names)
        boxes.append([box, label, score, attribute, attribute_score])
    return boxes
