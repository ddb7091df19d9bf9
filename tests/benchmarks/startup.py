"""How long it takes until something happens: the help, a run with nothing to do, the first image.

help               ``vlray extract --help``, median of seven; neither torch nor ray is imported
nothing to do      ``vlray extract`` again on an output of six photographs
six photographs    from nothing, with ``lite``; in parts, by the times in the run's log and of
                   the files that it writes
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from tests.benchmarks.commands import extract_command, run, shown
from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table, verdict

TARGET = 0.6
HEAVY = ("torch", "ray", "numpy", "pyarrow", "PIL", "detectron2")
SHOW_IMPORTS = f"""
import sys
from vlray import extract
try:
    extract.main(["--help"])
except SystemExit:
    print("IMPORTED", *[name for name in {HEAVY} if name in sys.modules])
"""

# What the log says when something has been reached; the rest is told by files.
MILESTONES = {
    "settings and log of this run": "imports of the command, settings",
    ": listed ": "imports of pyarrow, listing",
    "to process in": "plan",
    " CPUs, ": "import of Ray, ray.init",
    "detectors:": "planning of the pipeline",
}


def main() -> None:
    """Read the options, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3, help="of the runs; the help has seven")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        measure_help(folder)
        what = link_photographs(folder / "photographs", args.images)
        command = extract_command(folder / "photographs", folder / "out")
        print_header(f"start-up: {what}, {args.rounds} rounds", shown(command))
        spans: list[dict[str, float]] = []
        again: list[float] = []
        for number in range(args.rounds):
            out = folder / f"round {number}" / "out"
            command = extract_command(folder / "photographs", out)
            out.parent.mkdir()
            spans.append(measure_first(command, out, folder))
            again.append(run(command, folder).seconds)
    names = list(spans[0])
    rows = [[name, statistics.median(span[name] for span in spans)] for name in names]
    rows.append(["nothing to do: the same command again", statistics.median(again)])
    print_table([f"{args.images} photographs (medians)", "seconds"], rows)


def measure_help(folder: Path) -> None:
    """Time the help, and look at what it imports."""
    command = [sys.executable, "-m", "vlray.extract", "--help"]
    print_header("start-up: help, median of 7 runs", shown(command))
    run(command, folder)  # Python's bytecode and the disk's cache are there from now on
    runs = [run(command, folder, every=0.002) for _ in range(7)]
    seconds = [finished.seconds for finished in runs]
    said = run([sys.executable, "-c", SHOW_IMPORTS], folder).output
    imported = said.rpartition("IMPORTED")[2].split()
    median = statistics.median(seconds)
    cpu = statistics.median(finished.cpu_seconds for finished in runs)
    print_table(
        ["median, s", "fastest", "slowest", "CPU, s (median)", "heavy imports"],
        [[median, min(seconds), max(seconds), cpu, " ".join(imported) or "none"]],
    )
    print(f"help: {median:.2f} s, {verdict(median, TARGET)}")


def measure_first(command: list[str], out: Path, folder: Path) -> dict[str, float]:
    """Run from nothing and cut the time into spans."""
    seen: dict[str, float] = {}

    def watch(_process: psutil.Process, _seconds: float) -> None:
        # Every actor writes the labels when its detector is loaded.
        if "loaded" not in seen and (out / "labels.json").exists():
            seen["loaded"] = time.time()

    finished = run(command, folder, watch=watch)
    times = [("start", finished.began), *_log_times(out.parent / "runs")]
    first = min(file.stat().st_mtime for file in (out / "regions").glob("*.parquet"))
    times.append(("workers, imports of torch, weights", seen.get("loaded", first)))
    times.append(("photographs to the first file", first))
    end = finished.began + finished.seconds
    times.append(("end of Ray and Python", end))
    spans = {name: moment - before for (_, before), (name, moment) in itertools.pairwise(times)}
    return spans | {"all together": finished.seconds}


def _log_times(runs: Path) -> list[tuple[str, float]]:
    """Give the moments that the run's log tells, in its order."""
    (log,) = runs.glob("*/*/*.log")
    found = []
    for line in log.read_text().splitlines():
        for words, name in MILESTONES.items():
            if words in line and name not in dict(found):
                moment = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")
                found.append((name, moment.timestamp()))
    return found


if __name__ == "__main__":
    main()
