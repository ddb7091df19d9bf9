"""Names of the detector's labels in an output, and their provenance."""

from __future__ import annotations

import hashlib
import json

from vlray.detect.protocol import DetectorInfo
from vlray.regions import parts
from vlray.regions.schema import Provenance
from vlray.storage import files


def provenance_of(info: DetectorInfo) -> Provenance:
    """Return what each part of an output records about its detector."""
    labels = json.dumps([info.obj_names, info.attr_names]).encode()
    return {
        "detector_name": info.name,
        "feature_dim": info.feature_dim,
        "weights_sha256": info.weights_sha256,
        "conventions": dict(info.conventions),
        "labels_sha256": hashlib.sha256(labels).hexdigest(),
    }


def write_labels(output: str, info: DetectorInfo) -> None:
    """Write the class and attribute names. Every actor writes the same file."""
    fs, root = files.resolve(output)
    path = files.join(root, parts.LABELS)
    labels = {"obj_names": info.obj_names, "attr_names": info.attr_names}
    files.write_atomic(fs, path, json.dumps(labels, ensure_ascii=False, indent=1).encode())
