"""Whether a detector finds what its peer's own code finds, with the same random weights.

    python -m tests.benchmarks.parity --peer vmb --code FOLDER [--narrow] [--images N]

No code of a peer is part of vlray; FOLDER holds your own copies of

    grid    https://github.com/facebookresearch/grid-feats-vqa, as grid-feats-vqa/, and
            https://github.com/facebookresearch/detectron2 at ffff8ac, as detectron2/
    vmb     https://github.com/ronghanghu/vqa-maskrcnn-benchmark-m4c (a copy of
            vedanuj/vqa-maskrcnn-benchmark), as vqa-maskrcnn-benchmark-m4c/, and
            https://github.com/facebookresearch/mmf, as mmf/
    vinvl   https://github.com/microsoft/scene_graph_benchmark: FOLDER is the copy itself

``--narrow`` compares a network of few channels instead of the real size, in seconds instead of
minutes a photograph. Regions are compared row by row, in order, in fp32.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import pytest

from tests.benchmarks.report import print_header

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "fixtures" / "butd"
PEERS = {
    "grid": "tests.benchmarks.grid_parity",
    "vinvl": "tests.benchmarks.vinvl_parity",
    "vmb": "tests.benchmarks.vmb_parity",
}


def main() -> None:
    """Read the options, and run the peer's comparison in a folder of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--code", type=Path, required=True, help="folder with the peer's code")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--narrow", action="store_true", help="a network of few channels")
    args = parser.parse_args()
    print_header(f"Parity of {args.peer} with its peer's code", sys.argv)
    paths = sorted(args.photographs.rglob("*.jpg"))[: args.images or None]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)  # converted weights
        module = importlib.import_module(PEERS[args.peer])
        module.compare(args.code.absolute(), paths, Path(folder), narrow=args.narrow)


if __name__ == "__main__":
    main()
