"""Images a second out of archives and Parquet, beside the same photographs in a folder; listing.

decode    the first stage of an extraction alone (read, decode, resize) over all photographs, where
          the way of reading weighs most; the sources take turns, the table has medians
listing   a tar and a zip of ``--members`` tiny members: seconds, and peak memory of the process
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table, verdict
from vlray.cluster.journal import Journal
from vlray.config.detector import DetectorSection
from vlray.detect.load import resize_of, settled
from vlray.images.decode import MAX_PIXELS
from vlray.images.find import list_images
from vlray.stream.decode import DecodeShard
from vlray.stream.rows import ShardTask
from vlray.stream.turns import Prefetch

SHARD = 32
RATIO, SECONDS, GIB = 0.95, 60.0, 1.5


def main() -> None:
    """Read the options, pack the photographs, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=281)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--list", metavar="ARCHIVE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        listed = list_images(args.list).table.num_rows
        print(listed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        about = link_photographs(folder / "photos", args.images)
        print_header(f"archives: {about}, {args.rounds} rounds", sys.argv)
        decoding(pack(folder), args.rounds)
        listings(folder, args.members)


def pack(folder: Path) -> dict[str, Path]:
    """Write the photographs as a tar, two zips and a Parquet file; return all sources."""
    photographs = sorted((folder / "photos").iterdir())
    with tarfile.open(folder / "photos.tar", "w", dereference=True) as tar:
        for path in photographs:
            tar.add(path, path.name)
    for method, number in {"STORED": zipfile.ZIP_STORED, "DEFLATED": zipfile.ZIP_DEFLATED}.items():
        with zipfile.ZipFile(folder / f"{method}.zip", "w", number) as file:
            for path in photographs:
                file.write(path, path.name)
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in photographs]
    pq.write_table(pa.table({"image": rows}), folder / "photos.parquet", row_group_size=100)
    names = {"folder": "photos", "tar": "photos.tar", "zip, stored": "STORED.zip"}
    names |= {"zip, deflated": "DEFLATED.zip", "Parquet": "photos.parquet"}
    return {name: folder / file for name, file in names.items()}


def decoding(sources: dict[str, Path], rounds: int) -> None:
    """Print the images a second of each source."""
    measured: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, path in sources.items():
            measured[name].append(images_per_second(path))
    rates = {name: statistics.median(values) for name, values in measured.items()}
    rows = [
        (name, rate, rate / rates["folder"], verdict(rate / rates["folder"], RATIO, at_least=True))
        for name, rate in rates.items()
    ]
    print_table(("source", "images/s", "of the folder", f"at least {RATIO}"), rows)


def images_per_second(source: Path) -> float:
    """Run the first stage over all images of a source, in this process."""
    listing = list_images(str(source))
    images = listing.table.select(["image_id", "path", "split", "place"])
    resize = resize_of(settled(DetectorSection()))
    stage = DecodeShard(images, listing.root, MAX_PIXELS, resize)
    journal = Journal()
    decoder = stage.decoder(journal, separate=False, limited=False)
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        for start in range(0, images.num_rows, SHARD):
            task = ShardTask(0, start, min(SHARD, images.num_rows - start), 0)
            stage(task, decoder, pool, Prefetch(), journal)
    return images.num_rows / (time.perf_counter() - began)


def listings(folder: Path, members: int) -> None:
    """Print what it costs to list archives with many members."""
    rows = []
    for name in ("many.tar", "many.zip"):
        path = folder / name
        write_many(path, members)
        began = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.archives", "--list", str(path)]
        listed, gib = subprocess.check_output(command, text=True).split()
        seconds = time.perf_counter() - began
        memory = float(gib)
        verdicts = verdict(seconds, SECONDS), verdict(memory, GIB)
        rows.append((name, listed, seconds, verdicts[0], memory, verdicts[1]))
    print_table(
        ("archive", "members", "seconds", f"at most {SECONDS:.0f}", "GiB", f"at most {GIB}"), rows
    )


def write_many(path: Path, members: int) -> None:
    """Write an archive with many tiny members."""
    data = b"x" * 100
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for number in range(members):
                info = tarfile.TarInfo(f"{number:09d}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                tar.members.clear()  # type: ignore[attr-defined] # it would keep all
        return
    with zipfile.ZipFile(path, "w") as file:
        for number in range(members):
            file.writestr(f"{number:09d}.jpg", data)


if __name__ == "__main__":
    main()
