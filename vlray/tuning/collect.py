"""Collect the proposals of a detector: the expensive part of a search, once for each image."""

from __future__ import annotations

import logging
from pathlib import Path

from vlray.config.extract import ExtractConfig
from vlray.detect.load import check_weights, settled
from vlray.detect.selection.reselect import collecting
from vlray.regions.output import open_output
from vlray.stream.changes import ImagesChangedError
from vlray.stream.run import extract
from vlray.tuning.candidates import Candidates
from vlray.tuning.check_selection import check_selection

log = logging.getLogger("vlray.tuning")


def collect(config: ExtractConfig, folder: Path, *, with_feats: bool) -> Candidates:
    """Collect the proposals of a detector: its heavy part, once for each image.

    This is an extraction like any other: through Ray, resumable, with what failed in failures/. Of
    a collection that is complete, nothing is done again.

    Args:
        config: Settings of ``vlray extract``; what they select by does not matter.
        folder: For the collection, in a folder of its own name in it.
        with_feats: Whether vectors are kept too, for ``Candidates.write``.

    Raises:
        ValueError: Nothing is selected under these settings; or the detector is a class of the
            user's own and does not select as vlray does; or images have changed since a collection
            in the folder was begun.
    """
    if config.boxes or config.detector.features == "grid":
        what = f"boxes={config.boxes}" if config.boxes else "features=grid"
        raise ValueError(
            f"with {what} nothing is selected, so there are no thresholds to search; leave it away"
        )
    detector = settled(config.detector)
    check_weights(detector)
    asked = collecting(detector, with_feats=with_feats)
    is_caffe = asked.name != detector.name  # its probabilities decide: not in half precision
    output = config.output.model_copy(
        update={
            "path": str(folder / ("pooled" if with_feats else "boxes")),
            "dtype": "float32" if is_caffe else config.output.dtype,
            "on_changed": "refuse",
        }
    )
    collection = config.model_copy(update={"detector": asked, "output": output})
    try:
        result = extract(collection)
    except ImagesChangedError as error:  # what was measured on the old ones cannot be compared
        raise ValueError(f"{error} (a search is measured on the same images throughout)") from error
    if result.failed:
        log.warning(
            "%s of %s images failed; failures/ in %s tells which and why",
            f"{result.failed:,}",
            f"{result.planned:,}",
            result.output,
        )
    found = open_output(output.path)
    if not len(found):
        raise ValueError(f"not one image gave proposals; failures/ in {output.path} tells why")
    candidates = Candidates(found, detector.model_copy(update={"nms_thresh": 0.0}))
    check_selection(candidates, config, folder / "check")
    return candidates
