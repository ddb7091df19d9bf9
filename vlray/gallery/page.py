"""Render a gallery page: regions and placeholders as compact binary data, and thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlray.gallery.entries import Entry
from vlray.gallery.pictures import Picture
from vlray.pages.labels import LEAST_ATTRIBUTE, Names, name_of
from vlray.pages.palette import page_color
from vlray.pages.render import Total, render_page

NONE = 0xFFFF
"""Value that stands for "no label", "no attribute" or "no score" in the page's data."""

SCRIPTS = (
    *(f"pages/js/{name}.js" for name in ("elements", "tabs", "pictures", "browse")),
    *(f"gallery/js/{name}.js" for name in ("data", "boxes", "filters", "grid", "chips", "large")),
    *(f"gallery/js/{name}.js" for name in ("failures", "main")),
)


def page(
    entries: Sequence[Entry],
    names: Names,
    files: Sequence[str],
    pictures: Sequence[Picture],
    about: dict[str, Any],
) -> bytes:
    """Render the page.

    Args:
        entries: The images with their regions, in order.
        names: Names of the object classes and attributes.
        files: Name of each image's file in ``annotated/`` and ``thumbnails/``.
        pictures: Placeholder and thumbnail of each image.
        about: Data for the header, the other tabs and the filters, keyed by the names that the
            template and the scripts use.

    Returns:
        The HTML file.
    """
    splits = sorted({entry.split for entry in entries})
    data = {
        **about,
        **_regions(entries, names),
        "splits": splits,
        "placeholders": base64.b64encode(b"".join(one.placeholder for one in pictures)).decode(),
        "images": [
            [
                entry.image_id,
                entry.path,
                splits.index(entry.split),
                entry.width,
                entry.height,
                len(entry),
                # Unreadable images have no files.
                "" if picture.problem else file,
            ]
            for entry, file, picture in zip(entries, files, pictures, strict=True)
        ],
    }
    return render_page(
        "gallery/page.html",
        title=about["dataset"] or "vlray",
        heading=about["dataset"] or "Regions",
        subtitle=f"Regions by {about['detector']}, {about['date']}",
        totals=_totals(about, sum(bool(one.problem) for one in pictures), bool(data["labels"])),
        scripts=SCRIPTS,
        data=data,
        thumbnails=[picture.thumbnail for picture in pictures],
        image_files=bool(about["thumbnails"]),
        images=len(entries),
        failures=about["totals"]["failures"],
        parts=about["parts"],
        part=about["part"],
    )


def _totals(about: dict[str, Any], missing: int, has_labels: bool) -> list[Total]:
    """List the totals of the whole gallery, and the number of unreadable images on this page."""
    totals = about["totals"]
    per_image = totals["regions"] / max(totals["images"], 1)
    rows = [
        Total("images", f"{totals['images']:,}"),
        Total("regions", f"{totals['regions']:,}"),
        Total("per image", f"{per_image:.1f}"),
    ]
    if has_labels:
        rows.append(Total("labels", f"{totals['labels']:,}"))
    if totals["few"]:
        rows.append(Total(f"fewer than {about['min_boxes']}", f"{totals['few']:,}"))
    rows.append(Total("failures", f"{totals['failures']:,}"))
    if missing:
        rows.append(Total("unreadable", f"{missing:,}"))
    return rows


def _regions(entries: Sequence[Entry], names: Names) -> dict[str, Any]:
    """Pack the regions of the page into flat arrays, which data.js reads as ``regions``."""
    total = sum(map(len, entries))
    box = np.empty((total, 4), "<u2")
    label, score, attribute, attribute_score = np.full((4, total), -1, np.int64)
    score[:] = NONE  # regions without scores pass every threshold
    start = 0
    for entry in entries:
        rows = slice(start, start := start + len(entry))
        # In 65535ths of the image size: accurate to a pixel up to 65535 pixels per side.
        size = np.array([entry.width, entry.height] * 2, np.float64)
        box[rows] = np.rint(np.clip(entry.boxes / size, 0, 1) * 0xFFFF)
        if len(entry.obj_ids):
            label[rows] = entry.obj_ids
        # In ten-thousandths, which fit into 16 bits.
        if len(entry.obj_probs):
            score[rows] = np.rint(entry.obj_probs * 10_000)
        if len(entry.attr_probs):  # attributes without a score are not shown
            attribute[rows] = entry.attr_ids
            attribute_score[rows] = np.rint(entry.attr_probs * 10_000)
    attribute[attribute_score < LEAST_ATTRIBUTE * 10_000] = -1
    columns = [box]
    # Only labels that occur on this page are written, most frequent first.
    used = []
    for ids, scores, vocabulary in (
        (label, score, names.objects),
        (attribute, attribute_score, names.attributes),
    ):
        ranks, texts = _rank(ids, vocabulary)
        used.append(texts)
        # Two bytes per number, little-endian whatever the machine is: the script reads 16 bits.
        columns += [ranks.astype("<u2"), scores.clip(0, NONE).astype("<u2")]
    blob = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
    return {
        "regions": base64.b64encode(blob).decode(),
        "labels": used[0],
        "colors": [page_color(label) for label in used[0]],
        "plain_color": page_color(""),
        "attributes": used[1],
    }


def _rank(ids: np.ndarray, vocabulary: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Replace ids by their frequency rank; return the ranks and the name at each rank."""
    present, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    order = [index for index in np.argsort(-counts, kind="stable") if present[index] >= 0]
    assert len(order) < NONE, f"{len(order)} labels on one page"
    rank = np.full(len(present), NONE, np.int64)
    rank[order] = np.arange(len(order))
    texts = [name_of(int(present[index]), vocabulary) for index in order]
    return rank[inverse], texts
