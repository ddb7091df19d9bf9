"""Build the gallery of an output: pages, thumbnails and annotated images."""

from __future__ import annotations

import datetime
import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.fs as pafs
from tqdm import tqdm

from vlray.gallery import page as page_file
from vlray.gallery.entries import file_names, read_entries
from vlray.gallery.pictures import Draw, Folders, Picture
from vlray.gallery.summary import Summary, summarize
from vlray.pages.labels import Names
from vlray.pages.pictures import ImageReader, in_parallel, thumbnail_size
from vlray.regions.output import RegionOutput
from vlray.settings.wording import counted
from vlray.storage import files

log = logging.getLogger("vlray.gallery")

# A page of so many images has 11 MB: per image 0.8 kB for regions, 0.26 kB for the placeholder.
IMAGES_PER_PAGE_FILE = 10_000
# Up to this many images the page embeds the thumbnails, at most 32 MB, and needs no other file.
EMBEDDED_IMAGES = 400
# Longest side of thumbnails in files, pixels. Larger ones take too long to decode while scrolling.
FILE_SIZE = 480
FAILURES_LISTED = 5_000
ANNOTATED = "annotated"
THUMBNAILS = "thumbnails"
# files.resolve removes the scheme of a URI; the reported path gets it back.
_SCHEMES = {"s3": "s3://", "gcs": "gs://"}


@dataclass(frozen=True)
class GalleryResult:
    """Result of `build`.

    Attributes:
        path: Path of ``index.html``.
        images: Number of images in the gallery.
        regions: Number of regions in these images, regardless of score.
        failures: Number of images whose extraction failed.
        missing: Number of images that cannot be read and are shown as placeholders.
        summary: Label counts, for `vlray.gallery.table`.
    """

    path: str
    images: int
    regions: int
    failures: int
    missing: int
    summary: Summary


def build(
    output: RegionOutput,
    *,
    page: str = "",
    min_score: float = 0.3,
    limit: int = 0,
    split: Sequence[str] = (),
    annotated: bool = True,
    images_root: str = "",
) -> GalleryResult:
    """Write the gallery of an output: ``index.html`` and ``annotated/*.jpg``.

    With up to 400 images, the page is self-contained. With more images, the thumbnails are files in
    ``thumbnails/``. More than 10,000 images are split into several linked pages: ``index.html``,
    ``page-2.html`` and so on. Files of an earlier gallery are replaced.

    Args:
        output: The output to show.
        page: Folder or URI of the gallery; empty: ``gallery`` inside the output.
        min_score: Initial value of the page's score slider, and minimum score of the regions in
            annotated files.
        limit: Maximum number of images; 0 means all.
        split: Splits to show; empty means all.
        annotated: Whether to write the annotated files.
        images_root: Folder or URI of the images; empty: the folder they were extracted from.

    Raises:
        ValueError: A split has neither images nor failures in the output.
    """
    summary = summarize(output, min_score=min_score, split=split, limit=limit)
    fs, folder = _folder(output, page)
    count = len(summary.image_ids)
    # An output without images gets a page, too: it lists the failures.
    starts = range(0, max(count, 1), IMAGES_PER_PAGE_FILE)
    parts = [
        (_part_name(number), start + 1, min(start + IMAGES_PER_PAGE_FILE, count))
        for number, start in enumerate(starts)
    ]
    names = Names(output.obj_names, output.attr_names)
    draw = Draw(
        ImageReader.of(output, images_root),
        names,
        thumbnail_size(count) if count <= EMBEDDED_IMAGES else FILE_SIZE,
        min_score,
        Folders(
            fs,
            files.join(folder, ANNOTATED) if annotated else None,
            files.join(folder, THUMBNAILS) if count > EMBEDDED_IMAGES else None,
        ),
    )
    about = {
        **_about(output, summary, split, parts),
        "annotated": ANNOTATED if annotated else "",
        "thumbnails": THUMBNAILS if count > EMBEDDED_IMAGES else "",
    }
    # A second pass over the output: each page lists the totals, which the summary has counted.
    entries = read_entries(output, split=split, limit=limit)
    # Named together: all pages share the folders, so the names must differ between pages.
    targets = iter(file_names(summary.image_ids))
    problems: list[str] = []
    with tqdm(total=count, unit="image", desc="gallery", disable=None) as progress:
        for number, (name, first, last) in enumerate(parts):
            # Only the regions and thumbnails of one page are in memory.
            part = list(itertools.islice(entries, IMAGES_PER_PAGE_FILE))
            image_files = [f"{target}.jpg" for target in itertools.islice(targets, len(part))]
            pictures: list[Picture] = []
            for picture in in_parallel(draw, zip(part, image_files, strict=True)):
                pictures.append(picture)
                progress.update()
            problems += [picture.problem for picture in pictures if picture.problem]
            text = page_file.page(part, names, image_files, pictures, {**about, "part": number})
            files.write_atomic(fs, files.join(folder, name), text)
            log.debug("%s: images %d to %d, %d bytes", name, first, last, len(text))
    _remove_old_parts(fs, folder, {name for name, _, _ in parts})
    if problems:
        log.warning(
            "cannot read %d of %s, replaced by placeholders; the first: %s. "
            "Pass --images-root to set where the images are now",
            len(problems),
            counted(count, "image"),
            problems[0],
        )
    return GalleryResult(
        path=_SCHEMES.get(fs.type_name, "") + files.join(folder, "index.html"),
        images=count,
        regions=summary.regions,
        failures=about["totals"]["failures"],
        missing=len(problems),
        summary=summary,
    )


def _folder(output: RegionOutput, page: str) -> tuple[pafs.FileSystem, str]:
    if page:
        return files.resolve(page)
    fs, root = files.resolve(output.path)
    return fs, files.join(root, "gallery")


def _part_name(number: int) -> str:
    return "index.html" if number == 0 else f"page-{number + 1}.html"


def _about(
    output: RegionOutput,
    summary: Summary,
    split: Sequence[str],
    parts: Sequence[tuple[str, int, int]],
) -> dict[str, Any]:
    """Collect the data that all pages share: totals, settings and failures of the output."""
    failures = output.failures()
    if split:
        failures = failures.filter(pc.field("split").isin(list(split)))
    info = output.info
    today = datetime.date.today().isoformat()
    settings = {
        "output": output.path,
        "images": info.images_root,
        **{f"detector {name}": value for name, value in info.detector.items()},
        **info.settings,
        "vlray": info.vlray_version,
        "page made": today,
        "page's splits": ", ".join(split) or "all",
    }
    return {
        "dataset": info.dataset,
        "detector": info.detector.get("name", "an unnamed detector"),
        "date": today,
        "min_score": summary.min_score,
        "min_boxes": summary.min_boxes,
        "totals": {
            "images": len(summary.image_ids),
            "regions": summary.regions,
            "labels": len(summary.labels),
            "few": summary.few,
            "failures": failures.num_rows,
        },
        "parts": parts,
        "settings": [[name, str(value)] for name, value in settings.items()],
        "failures": [list(row.values()) for row in failures[:FAILURES_LISTED].to_pylist()],
    }


def _remove_old_parts(fs: pafs.FileSystem, folder: str, keep: set[str]) -> None:
    """Remove pages left over from an earlier, longer gallery; files of other programs stay."""
    for name in files.list_names(fs, folder):
        if not re.fullmatch(r"page-[0-9]+\.html", name) or name in keep:
            continue
        path = files.join(folder, name)
        # The generator tag marks pages that vlray wrote.
        if b'content="vlray"' in files.read_bytes(fs, path)[:300]:
            files.remove(fs, path)
