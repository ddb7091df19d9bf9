"""Check that a user's detector selects regions in the same way as vlray."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.config.images import ImagesSection
from vlray.detect.load import is_own, settled
from vlray.regions.output import RegionOutput, open_output
from vlray.storage import files
from vlray.stream.run import extract
from vlray.tuning.candidates import Candidates

_IMAGES = 2
# Unusual thresholds, which expose a detector that ignores its options.
_OTHER = {"score_thresh": 0.5, "nms_thresh": 0.3, "min_boxes": 2, "max_boxes": 20}


def check_selection(candidates: Candidates, config: ExtractConfig, folder: Path) -> None:
    """Compare vlray's selection from the proposals with the detector's own, on two images.

    The comparison uses two settings: the options in ``config``, and very different thresholds.
    vlray's own detectors are not checked.

    Args:
        candidates: The collected proposals.
        config: Settings of the extraction.
        folder: Folder for the regions that are extracted for the comparison.

    Raises:
        ValueError: The selections differ, so trials would not measure what an extraction returns.
    """
    if not is_own(config.detector):
        return
    detector = settled(config.detector)
    output = open_output(candidates.output)
    image_ids = candidates.image_ids[:_IMAGES]
    paths = output.read(image_ids, ["path"])["path"].to_pylist()
    root = output.info.images_root
    list_path = folder / "images.txt"
    image_paths = [_full_path(root, path) for path in paths]
    files.write_atomic(*files.resolve(list_path), "\n".join(image_paths).encode())
    for number, values in enumerate(({}, _OTHER)):
        # Only boxes and classes are compared, so no vectors are needed.
        options = detector.model_copy(update={**values, "features": "none"})
        direct = config.model_copy(
            update={
                "split": (),
                "images": ImagesSection(
                    # The whole path is the id, because two images may have the same file name.
                    root=str(list_path),
                    id_rule="regex:.+",
                    max_pixels=config.images.max_pixels,
                ),
                "detector": options,
                "output": config.output.model_copy(
                    update={"path": str(folder / f"regions-{number}")}
                ),
            }
        )
        extract(direct)
        _compare(candidates, image_ids, options, open_output(direct.output.path), image_paths)


def _full_path(root: str, path: str) -> str:
    return path if files.is_uri(path) or path.startswith("/") else files.join(root, path)


def _compare(
    candidates: Candidates,
    image_ids: list[str],
    options: DetectorSection,
    direct: RegionOutput,
    image_paths: list[str],
) -> None:
    selection = candidates.select(options)
    for index, (image_id, path) in enumerate(zip(image_ids, image_paths, strict=True)):
        # With the id rule regex:.+ the id is the whole path, which is relative below the list file.
        names = [name for name in direct.image_ids if path.endswith(name)]
        if not names:  # the detector failed on this image
            continue
        regions = direct[names[0]]
        rows = slice(selection.offsets[index], selection.offsets[index + 1])
        assert regions.obj_ids is not None  # the proposals have them
        same = np.array_equal(regions.boxes, selection.boxes[rows])
        if not same or not np.array_equal(regions.obj_ids, selection.obj_ids[rows]):
            thresholds = ", ".join(f"{name}={getattr(options, name)}" for name in _OTHER)
            raise ValueError(
                f"{options.name} does not select as vlray does: with {thresholds} it returns "
                f"{len(regions.boxes)} regions of image {image_id!r}, but the selection from its "
                f"proposals returns {rows.stop - rows.start}, or different ones; call "
                "vlray.detect.selection.select_regions in it, on boxes in pixels of the original "
                "image, or search other options than score_thresh, nms_thresh, min_boxes and "
                "max_boxes"
            )
