"""The page of a comparison: the worst images, side A's boxes beside side B's, and all figures."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlray.comparison.result import Comparison
from vlray.comparison.sides import Side
from vlray.comparison.table import COLUMNS, cosine_text, count_rows, notes, percent, spread_rows
from vlray.comparison.worst import ORDERS, BadImage, Labelled
from vlray.pages.labels import LEAST_ATTRIBUTE, name_of
from vlray.pages.pictures import Picture, read_thumbnails
from vlray.pages.render import Total, render_page

ABSENT_LISTED = 1_000
SCRIPTS = (
    *(f"pages/js/{name}.js" for name in ("elements", "tabs", "pictures")),
    "comparison/page.js",
)


def render(result: Comparison, images_root: str) -> tuple[bytes, list[str]]:
    """Make the page.

    Args:
        result: The comparison, with its worst images.
        images_root: Where the images are now; where they were at the extraction, if empty.

    Returns:
        The page, and why images cannot be read any more, one sentence for each of them.
    """
    images, orders = result.worst.images()
    pictures = _thumbnails(result, images, images_root)
    names = _names(result.a, result.b)
    data = {
        "names": names,
        "orders": [[ORDERS[name][0], places] for name, places in orders.items() if places],
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
    """Read the photographs where A has them, and those that are not there where B has them."""
    pictures = read_thumbnails(result.a.output, [image.path_a for image in images], images_root)
    lost = [index for index, picture in enumerate(pictures) if picture.thumbnail is None]
    paths = [images[index].path_b for index in lost]
    again = read_thumbnails(result.b.output, paths, images_root)
    for index, picture in zip(lost, again, strict=True):
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
    return [*totals, Total("the same bits", f"{overall.identical:,}")]


def _tables(result: Comparison) -> dict[str, Any]:
    """Collect what the other tabs show, by the names that the template reads."""
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
        "origins": [
            ("output", result.a.output.path, result.b.output.path),
            *((name, result.a.facts.get(name, ""), result.b.facts.get(name, "")) for name in names),
        ],
        "absent": absent[:ABSENT_LISTED],
        "absent_count": len(absent),
    }


def _names(a: Side, b: Side) -> list[str]:
    """Call each side by its folder, or by its whole path where the folders are called the same."""
    paths = [side.output.path.rstrip("/") for side in (a, b)]
    folders = [path.rpartition("/")[2] for path in paths]
    shown = paths if folders[0] == folders[1] else folders
    return [
        f"{name} ({detector})" if (detector := side.facts["detector"]) else name
        for name, side in zip(shown, (a, b), strict=True)
    ]


def _image(result: Comparison, image: BadImage, index: int, missing: bool) -> dict[str, Any]:
    figures, pairs = image.figures, image.figures.pairs
    measured = (figures.cosine_distance, figures.rel_l2)
    return {
        "id": image.image_id,
        "path": image.path_a,
        "missing": missing,
        "thumbnail": index,
        "size": [[side.image_hw[1], side.image_hw[0]] for side in (image.a, image.b)],
        "figures": figures.as_row(),
        "sides": [_boxes(result.a, image.a), _boxes(result.b, image.b)],
        "pairs": [
            {
                "a": int(pairs.a[row]),
                "b": int(pairs.b[row]),
                "iou": float(pairs.iou[row]),
                "cosine": None if measured[0] is None else float(measured[0][row]),
                "l2": None if measured[1] is None else float(measured[1][row]),
                "other": figures.same_class is not None and not figures.same_class[row],
            }
            for row in range(len(pairs))
        ],
    }


def _boxes(side: Side, regions: Labelled) -> list[list[Any]]:
    """List each box as corners, label, score, attribute and its score, as the script reads them."""
    boxes = []
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
