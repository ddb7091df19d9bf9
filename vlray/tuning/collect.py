"""Collect a detector's proposals, the expensive part of a search, once per image."""

from __future__ import annotations

import logging
from pathlib import Path

from vlray.config.extract import ExtractConfig
from vlray.detect.load import check_weights, settled
from vlray.detect.selection.reselect import LIGHT, collecting
from vlray.detect.vmb.config import is_vmb
from vlray.regions.output import open_output
from vlray.stream.changes import ImagesChangedError
from vlray.stream.run import extract
from vlray.tuning.candidates import Candidates
from vlray.tuning.check_selection import check_selection

log = logging.getLogger("vlray.tuning")


def collect(config: ExtractConfig, folder: Path, *, with_feats: bool) -> Candidates:
    """Run the detector once per image and store its proposals.

    This is a normal extraction: it runs on Ray, can be resumed, and lists failed images in
    ``failures/``. If the collection is complete, it is only opened.

    Args:
        config: Settings of ``vlray extract``; the selection thresholds in them are ignored.
        folder: Parent folder of the collection.
        with_feats: Whether to store the feature vectors too, for ``Candidates.write``.

    Raises:
        ValueError: An extraction with these settings selects no regions, the detector's selection
            cannot be repeated from stored proposals, a user's detector selects
            differently from vlray, no image has proposals, or images have changed since the
            collection began.
    """
    if config.boxes or config.detector.features == "grid":
        what = f"boxes={config.boxes}" if config.boxes else "features=grid"
        raise ValueError(
            f"{what} turns off the selection of regions, so there are no thresholds to search; "
            f"remove {what}"
        )
    detector = settled(config.detector)
    if is_vmb(detector.name):
        raise ValueError(
            f"{detector.name} selects regions by the probabilities of all classes, which are not "
            f"stored for it; search other options than {', '.join(LIGHT)}"
        )
    check_weights(detector)
    collector = collecting(detector, with_feats=with_feats)
    # For vg-caffe another detector collects, and regions are selected by its stored class
    # probabilities. Half precision would change the selection.
    is_caffe = collector.name != detector.name
    output = config.output.model_copy(
        update={
            "path": str(folder / ("pooled" if with_feats else "boxes")),
            "dtype": "float32" if is_caffe else config.output.dtype,
            "on_changed": "refuse",
        }
    )
    collection = config.model_copy(update={"detector": collector, "output": output})
    try:
        result = extract(collection)
    except ImagesChangedError as error:  # trials on the old images would not be comparable
        raise ValueError(f"{error} (all trials of a search need the same images)") from error
    if result.failed:
        log.warning(
            "%s of %s images failed; failures/ in %s lists them with the reasons",
            f"{result.failed:,}",
            f"{result.planned:,}",
            result.output,
        )
    regions = open_output(output.path)
    if not len(regions):
        raise ValueError(f"no image has proposals; failures/ in {output.path} lists the reasons")
    candidates = Candidates(regions, detector.model_copy(update={"nms_thresh": 0.0}))
    check_selection(candidates, config, folder / "check")
    return candidates
