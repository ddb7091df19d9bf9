"""How fast each form of region files is written and read, and in how much memory.

An output of made-up images of 36 regions with 2048 numbers each is exported to each form that
``vlray convert`` writes, and imported again; each in a process of its own. For grid features, the
36 regions are the cells of a grid.

python -m tests.benchmarks.forms                  all forms, 4,000 images
python -m tests.benchmarks.forms m2-hdf5 cocobu   only these
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.commands import Finished, run, shown
from tests.benchmarks.region_files import COUNT, DIM, regions_of
from tests.benchmarks.report import print_header, print_table, verdict
from tests.fixtures.made_up import describe_output
from vlray.config.formats import FORMATS, WRITTEN
from vlray.regions import parts
from vlray.regions.schema import regions_schema, to_table

IMAGES = 4_000
LIMIT = 500  # MiB
SHARD = 32
SIDE = 6  # cells of a grid


def main() -> None:
    """Write the outputs, measure each form, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("forms", nargs="*", choices=[[], *WRITTEN], metavar="FORM")
    parser.add_argument("--images", type=int, default=IMAGES)
    args = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as folder:
        home = Path(folder)
        sizes = home / "sizes.csv"
        lines = [f"{image + 1},480,640\n" for image in range(args.images)]
        sizes.write_text("".join(["id,height,width\n", *lines]))
        print_header("each form of region files", shown(_command(home, home / "out", home / "new")))
        for name in args.forms or WRITTEN:
            info = FORMATS[name]
            source = home / ("grids" if name == "grid-pth" else "regions")
            if not source.exists():
                _write(source, args.images, is_grid=name == "grid-pth")
            ending = {"OUT.tsv": ".tsv", "OUT.hdf5": ".hdf5"}.get(info.out, "")
            place, back = home / f"there{ending}", home / "back"
            command = _command(home, source, place, "--format", name)
            rows.append(_row(f"{name}, export", args.images, place, run(command, home)))
            flags = ["--trust-pickle"] if info.needs_trust else []
            flags += ["--sizes", str(sizes)] if any("sizes" in lack for lack in info.lacks) else []
            command = _command(home, place, back, *flags)
            rows.append(_row(f"{name}, import", args.images, place, run(command, home)))
            for path in (place, back, Path(f"{place}.vlray.json"), home / "there_imgid2idx.pkl"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            print(*rows[-2:], sep="\n", flush=True)
    print_table(["", "images", "MB", "seconds", "CPU s", "images/s", "peak RSS, MiB"], rows)
    peak = max(float(str(row[-1])) for row in rows)
    print(f"largest peak: {peak:.0f} MiB: {verdict(peak, LIMIT)}")


def _command(home: Path, source: Path, out: Path, *flags: str) -> list[str]:
    runs = ["--env.runs-dir", str(home / "runs")]
    return [sys.executable, "-m", "vlray.convert", str(source), str(out), *flags, *runs]


def _row(name: str, images: int, place: Path, done: Finished) -> tuple[object, ...]:
    paths = place.rglob("*") if place.is_dir() else [place]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    seconds = round(done.seconds, 1), round(done.cpu_seconds, 1)
    rate, peak = round(images / done.seconds, 1), round(done.peak_rss / 2**20)
    return name, images, round(size / 1e6), *seconds, rate, peak


def _write(out: Path, images: int, *, is_grid: bool) -> None:
    (out / parts.REGIONS).mkdir(parents=True)
    schema = regions_schema(DIM, "float16")
    source = regions_of(images)
    y, x = (np.linspace(0, side, SIDE + 1, dtype=np.float32) for side in (480, 640))
    cells = [[x[c], y[r], x[c + 1], y[r + 1]] for r in range(SIDE) for c in range(SIDE)]
    grid = np.array(cells, np.float32)
    assert len(grid) == COUNT
    for begin in range(0, images, SHARD):
        tables = []
        for number in range(begin, min(begin + SHARD, images)):
            regions = next(source)
            if is_grid:
                regions = dataclasses.replace(regions, boxes=grid)
            ids, paths = [str(number + 1)], [f"{number + 1}.jpg"]
            tables.append(to_table(regions, ids, paths, ["train"], schema))
        table = pa.concat_tables(tables).combine_chunks()
        path = out / parts.REGIONS / parts.part_name(begin // SHARD)
        path.write_bytes(parts.encode_regions(table, "zstd"))
    describe_output(out, 1600)


if __name__ == "__main__":
    main()
