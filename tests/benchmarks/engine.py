"""Images a second of the whole pipeline against a bare loop of the same detector.

The pipeline is ``vlray extract`` with ``lite``: decoding, Ray and Parquet. The loop is
``bare_loop.py``: one process, two threads, results kept in memory. They take turns, and the table
gives the medians of their rounds.

    with start-up      all photographs / seconds of the whole command
    without            photographs beyond the first two / seconds beyond those of a run of two;
                       of the loop: all photographs / its seconds after the weights are loaded.
                       Their ratio is what is judged: it counts every decoded and written image,
                       which a rate between two shards would not (decoding runs ahead).
    CPU s an image     of all processes, without start-up: what is left to compare where others use
                       the same cores
    between shards     from the first finished file to the last, in whole rounds of the actors

``--compare`` also measures other shares of the same two cores: actors, threads, batches, shards.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.commands import extract_command, run, shown
from tests.benchmarks.nodes import Clock
from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table, verdict

TARGET = 0.85
AUTOMATIC = "automatic"
FEW = 2  # photographs of the run that measures the start-up

VARIANTS: dict[str, tuple[str, ...]] = {
    AUTOMATIC: (),
    "1 actor x 2 threads": ("--cluster.actors=1", "--cluster.threads-per-actor=2"),
    "2 actors x 1 thread": ("--cluster.actors=2", "--cluster.threads-per-actor=1"),
    "2 actors x 2 threads": ("--cluster.actors=2", "--cluster.threads-per-actor=2"),
    "batches of 2": ("--detector.batch-size=2",),
    "batches of 4": ("--detector.batch-size=4",),
    "shards of 16": ("--output.shard-size=16",),
    "no compression": ("--output.compression=none",),
}


@dataclass(frozen=True)
class Rates:
    """Images a second of one run, its CPU seconds an image, and the seconds of its start."""

    whole: float
    steady: float
    cpu: float
    between: float = 0.0
    start: float = 0.0


def main() -> None:
    """Read the options, measure in turns, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=569)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the bare loop")
    parser.add_argument("--compare", action="store_true", help="measure all variants")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only these; repeat")
    args = parser.parse_args()
    names = args.variant or (list(VARIANTS) if args.compare else [AUTOMATIC])
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        what = link_photographs(folder / "photographs", args.images)
        link_photographs(folder / "few", FEW)
        command = extract_command(folder / "photographs", folder / "out")
        print_header(f"engine: {what}, {args.rounds} rounds", shown(command))
        loops: list[Rates] = []
        pipelines: dict[str, list[Rates]] = {variant: [] for variant in names}
        for number in range(args.rounds):
            loops.append(measure_loop(folder, args.threads))
            print(f"   round {number + 1}, bare loop: {loops[-1]}", flush=True)
            for variant in names:
                rates = measure_pipeline(folder, f"{number}-{names.index(variant)}", variant)
                pipelines[variant].append(rates)
                print(f"   round {number + 1}, {variant}: {rates}", flush=True)
    rows = _rows(f"bare loop, {args.threads} threads", loops, loops)
    for variant, measured in pipelines.items():
        rows += _rows(f"pipeline, {variant}", measured, loops)
    columns = ["images/s (medians)", "without start-up", "ratio", "with start-up", "ratio"]
    columns += ["CPU s an image", "ratio", "between shards", "start-up, s"]
    print_table(columns, rows)
    ratio = _median(pipelines[names[0]], "steady") / _median(loops, "steady")
    print(f"pipeline, {names[0]}: {ratio:.3f}, {verdict(ratio, TARGET, at_least=True)}")


def measure_loop(folder: Path, threads: int) -> Rates:
    """Run the bare loop in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bare_loop", str(folder / "photographs")]
    finished = run([*command, "--threads", str(threads)], folder)
    said = json.loads(finished.output.splitlines()[-1])
    return Rates(
        said["images"] / finished.seconds,
        said["images"] / said["seconds"],
        said["cpu"] / said["images"],
        start=finished.seconds - said["seconds"],
    )


def measure_pipeline(folder: Path, name: str, variant: str) -> Rates:
    """Run the command on two photographs, then on all of them."""
    flags = VARIANTS[variant]
    out, clocks = folder / f"out-{name}", [Clock(), Clock()]
    command = extract_command(folder / "few", folder / f"few-{name}", *flags)
    few = run(command, folder, clocks[0], 0.5)
    command = extract_command(folder / "photographs", out, "-v", *flags)
    finished = run(command, folder, clocks[1], 0.5)
    parts = _parts(out)
    images = sum(rows for _, rows in parts)
    said = re.search(r"detectors: (\d+) x", finished.output)
    actors = int(said[1]) if said else 1
    return Rates(
        images / finished.seconds,
        (images - FEW) / (finished.seconds - few.seconds),
        (clocks[1].seconds - clocks[0].seconds) / (images - FEW),
        _between_shards(parts, actors),
        few.seconds,
    )


def _parts(out: Path) -> list[tuple[float, int]]:
    """Give time and rows of each file, in the order in which they were written."""
    files = (out / "regions").glob("*.parquet")
    return sorted((file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in files)


def _between_shards(parts: list[tuple[float, int]], actors: int) -> float:
    """Give the rate between the first round of shards and the last whole one; 0 if too few."""
    rounds = len(parts) // actors
    if rounds < 2:
        return 0.0
    first, last = actors - 1, rounds * actors - 1
    seconds = parts[last][0] - parts[first][0]
    return sum(rows for _, rows in parts[first + 1 : last + 1]) / seconds


def _rows(name: str, measured: list[Rates], loops: list[Rates]) -> list[list[object]]:
    steady, whole = _median(measured, "steady"), _median(measured, "whole")
    return [
        [
            name,
            steady,
            steady / _median(loops, "steady"),
            whole,
            whole / _median(loops, "whole"),
            _median(measured, "cpu"),
            _median(measured, "cpu") / _median(loops, "cpu"),
            _median(measured, "between"),
            _median(measured, "start"),
        ]
    ]


def _median(measured: list[Rates], name: str) -> float:
    return statistics.median(getattr(rates, name) for rates in measured)


if __name__ == "__main__":
    main()
