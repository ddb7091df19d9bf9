"""Golden regions of VinVL's own code on random weights, and what writes them anew.

    python -m tests.detect.vinvl_goldens FOLDER

rewrites ``goldens/vinvl.json`` by running microsoft/scene_graph_benchmark in FOLDER (see
``tests.benchmarks.vinvl_peer``) with ``random_vinvl_state()`` on two photographs of scikit-image.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage

FILE = Path(__file__).parent / "goldens" / "vinvl.json"
PATHS = [
    Path(skimage.__file__).parent / "data" / name for name in ("coffee.png", "motorcycle_left.png")
]
SIZES = {"min_size": 160, "max_size": 240}
LIMITS = (3, 12)
COLUMNS = 4


def projection(length: int) -> np.ndarray:
    """Give directions by which vectors are told apart."""
    signs = np.random.default_rng(0).integers(0, 2, (length, COLUMNS)) * 2 - 1
    return (signs / length**0.5).astype(np.float32)


def summary(regions: dict[str, np.ndarray]) -> dict[str, Any]:
    """Give regions as plain numbers, with vectors as their norms and projections."""
    feats = regions["visual_feats"]
    columns = {name: values for name, values in regions.items() if name != "visual_feats"}
    columns |= {
        "norms": np.linalg.norm(feats, axis=1),
        "projections": feats @ projection(feats.shape[1]),
    }
    return {name: values.astype(float).round(5).tolist() for name, values in columns.items()}


def main() -> None:
    """Write the file."""
    from tests.benchmarks.vinvl_peer import Peer
    from tests.detect.vinvl_weights import NARROW, random_vinvl_state, write_vinvl

    goldens: dict[str, Any] = {"about": "python -m tests.detect.vinvl_goldens, seed 0"}
    with tempfile.TemporaryDirectory() as folder:
        weights = write_vinvl(random_vinvl_state(), Path(folder) / "vinvl.pth")
        peer = Peer(Path(sys.argv[1]).absolute(), weights, NARROW, limits=LIMITS, **SIZES)
        for number in (1, 2):
            peer.use_filter(number)
            goldens[str(number)] = {path.name: summary(peer(path)) for path in PATHS}
    lines = json.dumps(goldens, indent=1).replace("\n     ", " ").replace("\n    ]", " ]")
    FILE.write_text(lines + "\n")


if __name__ == "__main__":
    main()
