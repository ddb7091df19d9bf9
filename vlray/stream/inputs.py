"""Inputs of an extraction: its images, and the user's boxes; what is odd about them is logged."""

from __future__ import annotations

import logging
import time

from vlray.config.extract import ExtractConfig
from vlray.images.decode import CONVERT
from vlray.images.find import list_images
from vlray.images.ids import image_ids
from vlray.images.listing import Listing
from vlray.images.sources import known
from vlray.images.sources.names import OTHER_EXTENSIONS
from vlray.images.splits import is_split
from vlray.regions import parts
from vlray.regions.user_boxes import UserBoxes, read_boxes
from vlray.settings.log_format import DETAIL
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.stream.changes import MAX_NAMES

log = logging.getLogger("vlray.stream")


def list_inputs(config: ExtractConfig) -> Listing:
    """List the images, without those in the output folder.

    Raises:
        ValueError: The output is the folder of the images, or there are no images.
    """
    output = config.output.path
    if files.is_read_only(output):
        raise ValueError(f"{output}: vlray only reads there; choose a folder, s3:// or gs://")
    if files.resolve(output) == files.resolve(config.images.root):
        raise ValueError(
            f"{output} is the folder of the images; choose another folder for the output, such as "
            f"{files.join(output.partition('?')[0], 'regions')}"
        )
    began = time.monotonic()
    out, root = files.resolve(output)
    listing = list_images(
        config.images.root,
        id_rule=config.images.id_rule,
        split=config.split,
        follow_symlinks=config.images.follow_symlinks,
        leave_out=output,
        exclude=config.images.exclude,
        id_column=config.images.id_column,
        known=known.load(out, files.join(root, parts.PLAN, known.FILE)),
    )
    log.info(
        "%s: listed %s in %.1f s",
        config.images.root,
        counted(listing.table.num_rows, "image"),
        time.monotonic() - began,
        extra=DETAIL,
    )
    if listing.archives:
        archives = counted(listing.archives, "archive")
        log.info("the images are members of %s", archives, extra=DETAIL)
    first = listing.table["path"][0].as_py()
    if config.split and not is_split(first.partition("/")[0]):
        log.info("no split folders found: assigning all images to the split %s", *config.split)
    if listing.excluded:
        log.info("%s files and folders left out by patterns", f"{listing.excluded:,}")
    for archive, problem in listing.damaged[:MAX_NAMES]:
        log.warning("%s: %s; images behind this place are missing", archive, problem)
    if listing.unread:
        names = ", ".join(listing.unread[:MAX_NAMES])
        log.warning(
            "%s in the folder not read, because it also has image files: %s; pass archives by path "
            "or pattern",
            counted(len(listing.unread), "archive"),
            names,
        )
    if listing.unreadable:
        log.warning(
            "%s folders cannot be listed, and their images are left out, the first: %s",
            f"{len(listing.unreadable):,}",
            ", ".join(listing.unreadable[:MAX_NAMES]),
        )
    if other := sum(n for kind, n in listing.skipped.items() if kind in OTHER_EXTENSIONS):
        log.warning(
            "%s files are images that vlray does not read (%s); %s",
            f"{other:,}",
            " ".join(sorted(OTHER_EXTENSIONS & listing.skipped.keys())),
            CONVERT,
        )
    if listing.skipped:
        kinds = listing.skipped.most_common(5)
        names = ", ".join(f"{count:,} {kind or 'without extension'}" for kind, count in kinds)
        log.info("skipped files that are not images: %s", names)
    return listing


def read_user_boxes(config: ExtractConfig, listing: Listing) -> UserBoxes:
    """Read the user boxes, and warn about images without boxes and about boxes without an image.

    Raises:
        ValueError: No box belongs to any of the images.
    """
    began = time.monotonic()
    user_boxes = read_boxes(config.boxes, lambda paths: image_ids(paths, config.images.id_rule))
    ids = listing.table["image_id"]
    unknown = user_boxes.not_among(ids)
    images, boxes = len(user_boxes.image_ids), len(user_boxes)
    counts = f"{counted(boxes, 'box', 'boxes')} for {counted(images, 'image')}"
    log.info("%s: read %s in %.1f s", config.boxes, counts, time.monotonic() - began)
    if len(unknown) == images:
        raise ValueError(
            f"{config.boxes} has boxes for {counted(images, 'image id')} "
            f"({', '.join(unknown[:3])}, "
            f"...), but none matches an image ({', '.join(ids[:3].to_pylist())}, ...); choose "
            "another --images.id-rule, or change the ids of the boxes"
        )
    if unknown:
        log.warning(
            "%s has boxes for %s without an image, such as %s",
            config.boxes,
            counted(len(unknown), "id"),
            ", ".join(unknown[:5]),
        )
    if without := len(ids) - (images - len(unknown)):
        log.warning("%s without boxes will fail", counted(without, "image"))
    return user_boxes
