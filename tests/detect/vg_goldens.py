"""Golden regions of the Visual Genome detector on random weights, and what writes them anew.

    python -m tests.detect.vg_goldens

rewrites ``goldens/vg.json``: do it where a change of the numbers is meant, and say why in the
commit. Weights: ``random_vg_state(0)``, the same bits on every machine. Photographs: two PNGs of
scikit-image at a small size. They were chosen so that the decisions (which proposals, in which
order) stay the same when every weight is changed by a random 3e-5 of itself: another CPU's rounding
changes less. Other photographs, such as ``astronaut.png``, have scores that lie closer together.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from PIL import Image

import vlray
from tests.detect.vg_flavours import write_hf
from tests.detect.vg_weights import random_vg_state

FILE = Path(__file__).parent / "goldens" / "vg.json"
PRESETS = ("vg-caffe", "vg-pbua")
NAMES = ("coffee.png", "motorcycle_left.png")
OPTIONS = {"min_size": 200, "max_size": 320, "post_nms_topk": 60, "max_boxes": 10, "device": "cpu"}
COLUMNS = 4


def projection() -> np.ndarray:
    """Give directions that vectors of 2048 numbers are told apart by."""
    signs = np.random.default_rng(0).integers(0, 2, (2048, COLUMNS)) * 2 - 1
    return (signs / 2048**0.5).astype(np.float32)


def regions(preset: str, weights: Path) -> dict[str, dict[str, Any]]:
    """Give what a preset finds on each photograph, vectors as their projection."""
    found = {}
    for name in NAMES:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            batch = vlray.find_regions(
                image.convert("RGB"), preset, weights=str(weights), **OPTIONS
            )
        assert batch.attr_ids is not None
        found[name] = {
            "boxes": batch.boxes,
            "obj_ids": batch.obj_ids,
            "attr_ids": batch.attr_ids,
            "obj_probs": batch.obj_probs,
            "attr_probs": batch.attr_probs,
            "norms": np.linalg.norm(batch.visual_feats, axis=1),
            "projections": batch.visual_feats @ projection(),
        }
    return found


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        weights = write_hf(random_vg_state(), Path(folder) / "model.safetensors")
        goldens: dict[str, Any] = {"about": "written by python -m tests.detect.vg_goldens, seed 0"}
        for preset in PRESETS:
            goldens[preset] = {
                name: {key: values.astype(float).round(5).tolist() for key, values in one.items()}
                for name, one in regions(preset, weights).items()
            }
    lines = json.dumps(goldens, indent=1).replace("\n     ", " ").replace("\n    ]", " ]")
    FILE.write_text(lines + "\n")


if __name__ == "__main__":
    main()
