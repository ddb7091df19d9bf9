"""A search of 200 selections, against 200 extractions.

extraction    ``vlray extract --features none`` on the images, whole command, once
search        ``vlray tune`` with 200 settings of nms_thresh, score_thresh and min_boxes on the same
              images: the proposals once, then every selection measured on the truth

Times are of whole commands, Ray's start included. 200 extractions are one times 200.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.commands import extract_command, run, shown
from tests.benchmarks.report import print_header, print_table, verdict

COCO = Path(__file__).parents[3] / "shared" / "fixtures" / "coco_mini"
SPACE = (
    "nms_thresh=0.4..0.78/20",
    "score_thresh=0.05,0.2",
    "min_boxes=10,20,28,32,36",
)
TARGET = 30


def main() -> None:
    """Read the options, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=0, help="0: all of them")
    parser.add_argument("--detector", default="lite")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        photographs = folder / "photographs"
        photographs.mkdir()
        found = sorted((COCO / "val2017").iterdir())[: args.images or None]
        for path in found:
            (photographs / path.name).symlink_to(path)
        measure(photographs, folder, len(found), args.detector)


def measure(photographs: Path, folder: Path, images: int, detector: str) -> None:
    """Extract once, search once, and compare."""
    flags = ("--id-rule", "coco", "--name", detector)
    once = extract_command(photographs, folder / "once", "--features", "none", *flags)
    search = [
        *(sys.executable, "-m", "vlray.tune", str(folder / "sweep"), "--objective", "ar@36"),
        *("--truth", str(COCO / "annotations" / "instances_val2017.json"), "--space", *SPACE),
        *("--cluster.address", "local", "--env.runs-dir", str(folder / "runs")),
        *("--", "extract", str(photographs), *flags),
    ]
    print_header(f"search: {images} images, {detector}", shown(search))
    one, all_of_it = run(once, folder).seconds, run(search, folder).seconds
    trials = pq.read_table(folder / "sweep" / "trials.parquet").to_pylist()
    count = len(trials) - 1  # without the defaults
    columns = ["", "seconds", "as many extractions"]
    rows = [
        ["one extraction", one, 1.0],
        [f"{count} extractions", count * one, float(count)],
        [f"search of {count} settings", all_of_it, all_of_it / one],
        ["  of it, in trials (of all processes)", sum(row["seconds"] for row in trials), ""],
    ]
    print_table(columns, [[str(value) if value == "" else value for value in row] for row in rows])
    ratio = count * one / all_of_it
    print(f"the search is {ratio:.1f} times as fast, {verdict(ratio, TARGET, at_least=True)}\n")
    names = ("trial", *(entry.partition("=")[0] for entry in SPACE))
    figures = ("ar@36", "ar@36:0.5:0.95", "recall", "boxes")
    best = next(row for row in trials if row["trial"] != "defaults")
    defaults = next(row for row in trials if row["trial"] == "defaults")
    print_table(
        ["", *names[1:], *figures],
        [
            [
                said,
                *(str(row[f"detector.{name}"] or "-") for name in names[1:]),
                *(f"{row[figure]:.4f}" for figure in figures),
            ]
            for said, row in (("best", best), ("defaults", defaults))
        ],
    )


if __name__ == "__main__":
    main()
