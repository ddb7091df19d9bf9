"""Golden regions of a small network of maskrcnn-benchmark, and what writes them anew.

    python -m tests.detect.vmb_goldens

rewrites ``goldens/vmb.json``: do it where a change of the numbers is meant, and say why in the
commit. They were written when the network agreed with the peer's own code.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data

from tests.detect.vmb_networks import write_vmb
from vlray.detect.load import load_detector
from vlray.detect.vmb.detector import Vmb
from vlray.regions.batch import RegionBatch

FILE = Path(__file__).parent / "goldens" / "vmb.json"
FIRST = 12  # regions that are compared one by one


def summary(batch: RegionBatch) -> dict[str, Any]:
    """Describe the first regions."""
    assert batch.obj_ids is not None
    assert batch.obj_probs is not None
    return {
        "num_boxes": int(batch.num_boxes[0]),
        "boxes": batch.boxes[:FIRST].astype(float).round(3).tolist(),
        "obj_ids": batch.obj_ids[:FIRST].tolist(),
        "obj_probs": batch.obj_probs[:FIRST].astype(float).round(5).tolist(),
        "norms": np.linalg.norm(batch.visual_feats[:FIRST], axis=1).astype(float).round(4).tolist(),
    }


def main() -> None:
    """Write the file."""
    image = np.ascontiguousarray(skimage.data.coffee()[60:360, 100:500, ::-1])
    with tempfile.TemporaryDirectory() as folder:
        options = write_vmb(Path(folder), image).options()
        hw = np.array([image.shape[:2]], np.int32)
        batch = load_detector(options)([Vmb.resize(options)(image)], hw)
    about = {"about": "written by python -m tests.detect.vmb_goldens"}
    lines = json.dumps(about | summary(batch), indent=1).replace("\n   ", " ")
    FILE.write_text(lines.replace("\n  ]", " ]") + "\n")


if __name__ == "__main__":
    main()
