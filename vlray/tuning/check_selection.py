"""Whether a detector of the user's own selects its regions as vlray does."""

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
_OTHER = {"score_thresh": 0.5, "nms_thresh": 0.3, "min_boxes": 2, "max_boxes": 20}


def check_selection(candidates: Candidates, config: ExtractConfig, folder: Path) -> None:
    """Compare what is selected again with what the detector itself selects, on two images.

    Once, and under two settings: those that are given and quite other ones. Detectors whose rule is
    known are not asked.

    Args:
        candidates: What was collected.
        config: Settings of the extraction.
        folder: For the regions that are extracted to compare.

    Raises:
        ValueError: They differ, so trials would say nothing of what an extraction gives.
    """
    if not is_own(config.detector):
        return
    detector = settled(config.detector)
    output = open_output(candidates.output)
    image_ids = candidates.image_ids[:_IMAGES]
    paths = output.read(image_ids, ["path"])["path"].to_pylist()
    root = output.info.images_root
    listed = folder / "images.txt"
    places = [_place(root, path) for path in paths]
    files.write_atomic(*files.resolve(listed), "\n".join(places).encode())
    for number, values in enumerate(({}, _OTHER)):
        options = detector.model_copy(update={**values, "features": "none"})
        direct = config.model_copy(
            update={
                "split": (),
                "images": ImagesSection(
                    root=str(listed), id_rule="regex:.+", max_pixels=config.images.max_pixels
                ),
                "detector": options,
                "output": config.output.model_copy(
                    update={"path": str(folder / f"regions-{number}")}
                ),
            }
        )
        extract(direct)
        _compare(candidates, image_ids, options, open_output(direct.output.path), places)


def _place(root: str, path: str) -> str:
    return path if files.is_uri(path) or path.startswith("/") else files.join(root, path)


def _compare(
    candidates: Candidates,
    image_ids: list[str],
    options: DetectorSection,
    direct: RegionOutput,
    places: list[str],
) -> None:
    selection = candidates.select(options)
    for at, (image_id, place) in enumerate(zip(image_ids, places, strict=True)):
        names = [name for name in direct.image_ids if place.endswith(name)]  # or it failed
        if not names:
            continue
        found = direct[names[0]]
        rows = slice(selection.offsets[at], selection.offsets[at + 1])
        assert found.obj_ids is not None  # the proposals have them
        same = np.array_equal(found.boxes, selection.boxes[rows])
        if not same or not np.array_equal(found.obj_ids, selection.obj_ids[rows]):
            said = ", ".join(f"{name}={getattr(options, name)}" for name in _OTHER)
            raise ValueError(
                f"{options.name} does not select as vlray does: with {said} it gives "
                f"{len(found.boxes)} regions of image {image_id!r}, and selecting again from its "
                f"proposals {rows.stop - rows.start}, or others; let it select by "
                "vlray.detect.selection.select_regions on boxes in pixels of the original image, "
                "or search other options than score_thresh, nms_thresh, min_boxes and max_boxes"
            )
