"""How fast examples come with their regions, beside LXMERT's way, and what it takes of memory.

One content in two forms: 20,000 made-up images of 36 x 2048 float16 as an output of vlray, and as
the TSV that LXMERT reads; 140,000 questions about them; batches of 32 in random order.

opening       the output (its files, its ids) and its store, when it has been unpacked
store         vectors of all images in random order, nothing else
vlray         from the start of the process to its 1,000th batch, and the rate after it; "first
              time": the questions are read and the regions unpacked as well
LXMERT's way  its reading of the TSV and torch's DataLoader, in our words; or, with ``--lxmert``,
              its own classes of a clone
second        another process that reads the other half of the same epoch: what it has of its own,
              and what torch alone has; and a worker process of torch's DataLoader

The files take 15 GB, and LXMERT's way 7 GB of memory; ``--images`` makes both smaller.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.commands import environment, run, shown
from tests.benchmarks.region_files import make
from tests.benchmarks.report import print_header, print_table, verdict

RATE, RATIO, MEMORY, OPENING, SECOND = 3000, 10, 1.5 * 1024, 1.0, 300
MIB = 2**20

Result = dict[str, Any]


def main() -> None:
    """Make the files, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=140_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep the files here, and take those there are")
    parser.add_argument("--lxmert", type=Path, help="a clone of airsplay/lxmert to run")
    args = parser.parse_args()
    with ExitStack() as stack:
        work = args.work or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vlray-loader-"))
        )
        work = work.absolute()
        make(work, args.images, args.questions, tsv=True)
        clone = [str(args.lxmert.absolute())] if args.lxmert else []
        theirs = command("lxmert", work, *clone) if clone else command("theirs", work)
        print_header(
            f"loader: {args.images:,} images, {args.questions:,} questions, {args.rounds} rounds",
            shown([sys.executable, "-m", "tests.benchmarks.loader", *sys.argv[1:]]),
        )
        report(work, theirs, args.rounds)


def report(work: Path, theirs: list[str], rounds: int) -> None:
    """Measure and print."""
    cold = []
    for _ in range(rounds):
        shutil.rmtree(work / "cache", ignore_errors=True)
        cold.append(measure(command("ours", work), work))
    warm = [measure(command("ours", work), work) for _ in range(rounds)]
    other = [measure(theirs, work) for _ in range(rounds)]
    opened = [measure(command("opening", work), work) for _ in range(rounds)]
    alone = [measure(command("store", work), work) for _ in range(rounds)]
    columns = ["medians", "first batch, s", "1,000th, s", "examples/s after", "peak RSS, MiB"]
    kinds = {"vlray, first time": cold, "vlray": warm, "LXMERT's way": other}
    names = ("first", "reached", "rate", "peak")
    rows = {kind: [median(results, name) for name in names] for kind, results in kinds.items()}
    print_table(columns, [[kind, *values] for kind, values in rows.items()])
    spans = ("imports", "examples", "regions")
    print_table(
        ["vlray's start, s", *spans],
        [[kind, *(median(kinds[kind], s) for s in spans)] for kind in list(kinds)[:2]],
    )
    print_table(
        ["output, s", "its ids, s", "store, s", "vectors alone, examples/s", "GB/s", "RSS, MiB"],
        [
            [
                *(median(opened, name) for name in ("output", "ids", "store")),
                *(median(alone, name) for name in ("rate", "gigabytes", "peak")),
            ]
        ],
    )
    ours = command("ours", work)
    second = [second_process(work, [*ours, "0", "2"], [*ours, "1", "2"]) for _ in range(rounds)]
    torch = [second_process(work, command("bare", work), command("bare", work))]
    worker = [measure(command("worker", work), work) for _ in range(rounds)]
    others = {
        "a second process": second,
        "one that only imports torch": torch,
        "a worker of torch's DataLoader": worker,
    }
    print_table(
        ["has in memory, MiB", "RSS", "PSS", "USS"],
        [
            [kind, *(median(m, name) for name in ("rss", "pss", "uss"))]
            for kind, m in others.items()
        ],
    )
    opening = sum(median(opened, name) for name in ("output", "ids", "store"))
    ratio, first_ratio = (rows["LXMERT's way"][1] / rows[kind][1] for kind in list(kinds)[:2][::-1])
    lines = {
        "examples/s": (rows["vlray"][2], RATE, True),
        "to the 1,000th batch, times as quick": (ratio, RATIO, True),
        "the same, the first time": (first_ratio, RATIO, True),
        "peak RSS, MiB": (rows["vlray"][3], MEMORY, False),
        "opening, s": (opening, OPENING, False),
        "second process, USS, MiB": (median(second, "uss"), SECOND, False),
        "worker of a DataLoader, USS, MiB": (median(worker, "uss"), SECOND, False),
    }
    for name, (value, limit, at_least) in lines.items():
        print(f"{name}: {value:,.2f}, {verdict(value, limit, at_least=at_least)}")


def command(name: str, work: Path, *rest: str) -> list[str]:
    """Give the arguments of a program of ``loader_runs``."""
    return [sys.executable, "-m", "tests.benchmarks.loader_runs", name, str(work), *rest]


def measure(arguments: list[str], work: Path) -> Result:
    """Run a program to its end; moments are given in seconds since its process was started."""
    finished = run(arguments, work)
    result = results(finished.output) | {"peak": finished.peak_rss / MIB}
    for name in {"first", "reached"} & result.keys():
        result[name] -= finished.began
    print(f"  {arguments[3]}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return result


def second_process(work: Path, one: list[str], other: list[str]) -> Result:
    """Run one process and hold it, then give what another one has in memory at its end."""
    ends = 1 + ("ours" in one)  # its RESULT lines
    first = subprocess.Popen(
        [*one, "hold"],
        env=environment(work),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout is not None
        said = 0
        while said < ends and first.poll() is None:
            said += first.stdout.readline().startswith("RESULT")
        return measure(other, work)


def results(output: str) -> Result:
    """Collect what a program said."""
    found: Result = {}
    for line in output.splitlines():
        if line.startswith("RESULT "):
            found |= json.loads(line.removeprefix("RESULT "))
    return found


def median(found: list[Result], name: str) -> float:
    """Give the median of what the rounds found."""
    return statistics.median(result[name] for result in found)


if __name__ == "__main__":
    main()
