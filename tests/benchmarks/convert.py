"""How fast a TSV of ten columns becomes an output and comes out again, and in how much memory.

Made-up rows of 36 regions with 2048 numbers each, in files of 500 and of 4,000 images. Beside it
the way in which LXMERT's own code reads such a file (``csv.DictReader``, ``base64``,
``numpy.frombuffer``), which writes nothing: once keeping all images, as it does, once dropping
them.

Source of the way it reads: airsplay/lxmert, src/utils.py (load_obj_tsv).
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.commands import Finished, run, shown
from tests.benchmarks.report import print_header, print_table, verdict

TARGET = 1.15
FEW, MANY = 500, 4_000
COUNT, DIM = 36, 2048

PLAIN = """
import base64, csv, sys
import numpy as np

csv.field_size_limit(sys.maxsize)
names = ["img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf",
         "num_boxes", "boxes", "features"]
kinds = {"objects_id": np.int64, "objects_conf": np.float32, "attrs_id": np.int64,
         "attrs_conf": np.float32, "boxes": np.float32, "features": np.float32}
kept = []
with open(sys.argv[1]) as stream:
    for item in csv.DictReader(stream, names, delimiter="\\t"):
        for name, kind in kinds.items():
            item[name] = np.frombuffer(base64.b64decode(item[name]), dtype=kind)
        if sys.argv[2] == "keep":
            kept.append(item)
"""


def main() -> None:
    """Make the files, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--many", type=int, default=MANY)
    args = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    peaks: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="vlray-convert-") as folder:
        home = Path(folder)
        command = _convert(home, home / "few.tsv", home / "out")
        print_header("conversion of a TSV of ten columns", shown(command))
        for images in (args.few, args.many):
            source = _write(home / f"{images}.tsv", images)
            out = home / f"{images}"
            for name, command in {
                "plain reading, kept": [sys.executable, "-c", PLAIN, str(source), "keep"],
                "plain reading, dropped": [sys.executable, "-c", PLAIN, str(source), "drop"],
                "vlray import": _convert(home, source, out),
                "vlray export, TSV": _convert(home, out, home / f"{images}-again.tsv"),
                "vlray export, HDF5": _convert(home, out, home / f"{images}.h5"),
                "vlray export, npz": _convert(home, out, home / f"{images}-npz"),
            }.items():
                done = run(command, home)
                rows.append(_row(name, images, source, done))
                peaks.setdefault(name, []).append(done.peak_rss)
            if (home / f"{images}-again.tsv").stat().st_size != source.stat().st_size:
                raise AssertionError("what came out again is of another size than what went in")
    columns = ["", "images", "seconds", "CPU seconds", "images/s", "MB/s of TSV", "peak RSS, MiB"]
    print_table(columns, rows)
    for name, (few, many) in peaks.items():
        if name.startswith("vlray"):
            growth = many / few
            print(
                f"memory of {name}: x{growth:.2f} from {args.few} to {args.many} images: ", end=""
            )
            print(verdict(growth, TARGET))


def _convert(home: Path, source: Path, out: Path) -> list[str]:
    runs = ["--env.runs-dir", str(home / "runs")]
    return [sys.executable, "-m", "vlray.convert", str(source), str(out), *runs]


def _row(name: str, images: int, source: Path, done: Finished) -> tuple[object, ...]:
    megabytes = source.stat().st_size / 1e6
    return (
        name,
        images,
        round(done.seconds, 1),
        round(done.cpu_seconds, 1),
        round(images / done.seconds, 1),
        round(megabytes / done.seconds, 1),
        round(done.peak_rss / 2**20),
    )


def _write(path: Path, images: int) -> Path:
    rng = np.random.default_rng(0)
    # A few payloads in turn: making random numbers for each image would take longer than reading.
    feats = [np.maximum(rng.normal(0.2, 1, (COUNT, DIM)), 0).astype("<f4") for _ in range(16)]
    encoded = [base64.b64encode(values.tobytes()).decode() for values in feats]
    with path.open("w", newline="") as stream:
        for image in range(images):
            corner, side = rng.uniform(0, 300, (COUNT, 2)), rng.uniform(16, 170, (COUNT, 2))
            boxes = np.concatenate([corner, corner + side], axis=1).astype("<f4")
            arrays = [
                rng.integers(0, 1600, COUNT),
                rng.uniform(0.01, 1, COUNT).astype("<f4"),
                rng.integers(0, 400, COUNT),
                rng.uniform(0.01, 1, COUNT).astype("<f4"),
            ]
            labels = [base64.b64encode(array.tobytes()).decode() for array in arrays]
            box = base64.b64encode(boxes.tobytes()).decode()
            fields = [f"{image}", "480", "640", *labels, str(COUNT), box, encoded[image % 16]]
            stream.write("\t".join(fields) + "\r\n")
    return path


if __name__ == "__main__":
    main()
