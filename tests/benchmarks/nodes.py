"""Images a second of two nodes of one CPU each against one node of two, and a node that is lost.

All nodes are simulated on this machine, so that both clusters have the same two cores: the ratio
is what it costs to be spread. They take turns, each a new cluster in every round; the command is
the same ``vlray extract`` with ``lite``.

    with start-up      all photographs / seconds of the whole command
    without            photographs beyond the first two / seconds beyond those of a run of two
    CPU s an image     of all processes of the cluster and of the command, beyond those of a run of
                       two: what is left to compare where others use the same cores

Then, on two nodes again, one is killed when a third of the files are written. The run has to go on
and to give the files of the unbroken one, byte by byte.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.benchmarks.commands import run, shown
from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table

CLUSTERS = {"1 node x 2 CPUs": (2,), "2 nodes x 1 CPU": (1, 1)}
FEW = 2  # photographs of the run that measures the start-up
SHARD = 5
# A node that is killed is missed after three seconds.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class Rates(NamedTuple):
    """Images a second of one run, the seconds of its start, CPU seconds an image, its actors."""

    whole: float
    steady: float
    start: float
    cpu: float
    actors: str


def main() -> None:
    """Read the options, measure in turns, print the table, lose a node."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vn", dir="/tmp") as name:  # sockets: a short path
        folder = Path(name)
        os.environ |= {"RAY_TMPDIR": name, "RAY_AUTH_MODE": "disabled"}
        os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}
        what = link_photographs(folder / "photographs", args.images)
        link_photographs(folder / "few", FEW)
        title = f"nodes: {what}, {args.rounds} rounds"
        print_header(title, shown(command(folder, "photographs", "out", "ADDRESS")))
        measured: dict[str, list[Rates]] = {cluster: [] for cluster in CLUSTERS}
        for number in range(args.rounds):
            for cluster, cpus in CLUSTERS.items():
                measured[cluster].append(measure(folder, f"{len(cpus)}-{number}", cpus))
                print(f"   round {number + 1}, {cluster}: {measured[cluster][-1]}", flush=True)
        report(measured)
        lose_a_node(folder, unbroken=folder / "out-2-0")


def command(folder: Path, images: str, out: str, address: str) -> list[str]:
    """Give the arguments of ``vlray extract`` on a cluster that runs."""
    made = [sys.executable, "-m", "vlray.extract", str(folder / images), str(folder / out)]
    made += ["--cluster.address", address, "--shard-size", str(SHARD), "-v"]
    return [*made, "--env.runs-dir", str(folder / "runs")]


@contextlib.contextmanager
def cluster_of(*cpus: int) -> Iterator[Any]:
    """Start a cluster of nodes with so many CPUs, the first of them the head."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    head = {"num_cpus": cpus[0], "include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for more in cpus[1:]:
            cluster.add_node(num_cpus=more)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def measure(folder: Path, name: str, cpus: tuple[int, ...]) -> Rates:
    """Extract two photographs, then all, on a new cluster."""
    with cluster_of(*cpus) as cluster:
        clocks = [Clock(), Clock()]
        few = run(command(folder, "few", f"few-{name}", cluster.address), folder, clocks[0], 0.5)
        out = f"out-{name}"
        done = run(command(folder, "photographs", out, cluster.address), folder, clocks[1], 0.5)
    images = images_of(done.output)
    said = re.search(r"detectors: (.*)", done.output)
    steady = (images - FEW) / (done.seconds - few.seconds)
    cpu = (clocks[1].seconds - clocks[0].seconds) / (images - FEW)
    return Rates(images / done.seconds, steady, few.seconds, cpu, said[1] if said else "?")


class Clock:
    """CPU seconds of this process's children, and of theirs, as far as they are seen alive."""

    def __init__(self) -> None:
        self._before = self._times()
        self._spent: dict[tuple[int, float], float] = {}

    def __call__(self, *_: object) -> None:
        """Look; Ray's workers leave nothing behind that could be looked at after their end."""
        for process, seconds in self._times().items():
            self._spent[process] = seconds - self._before.get(process, 0.0)

    @property
    def seconds(self) -> float:
        """Give what all of them have spent since the beginning."""
        return sum(self._spent.values())

    @staticmethod
    def _times() -> dict[tuple[int, float], float]:
        found = {}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
        return found


def images_of(output: str) -> int:
    """Read from a command's last words how many images have regions."""
    said = re.search(r"([\d,]+) images, [\d,]+ regions, ", output)
    assert said is not None, output
    return int(said[1].replace(",", ""))


def report(measured: dict[str, list[Rates]]) -> None:
    """Print the medians and the ratio of the two."""
    one, two = (
        [statistics.median(rates[column] for rates in rounds) for column in range(4)]
        for rounds in measured.values()
    )
    rows = [
        [
            *(name, medians[1], medians[1] / one[1], medians[0], medians[0] / one[0]),
            *(medians[2], medians[3], medians[3] / one[3]),
        ]
        for name, medians in zip(measured, (one, two), strict=True)
    ]
    columns = ["images/s (medians)", "without start-up", "ratio", "with start-up", "ratio"]
    print_table([*columns, "start-up, s", "CPU s an image", "ratio"], rows)
    print(f"2 nodes / 1 node: {two[1] / one[1]:.3f} of the images/s")


def lose_a_node(folder: Path, unbroken: Path) -> None:
    """Kill a node on the way, and compare what comes out with an unbroken run's files."""
    with cluster_of(1, 1) as cluster:
        node = cluster.list_all_nodes()[-1]
        lost_at = 0

        def watch(*_: object) -> None:
            nonlocal lost_at
            there = len(list(folder.glob("lost/regions/part-*")))
            if not lost_at and there * 3 >= len(list(unbroken.glob("regions/part-*"))):
                lost_at = there
                cluster.remove_node(node, allow_graceful=False)

        began = time.perf_counter()
        done = run(command(folder, "photographs", "lost", cluster.address), folder, watch)
        seconds = time.perf_counter() - began
    assert lost_at, done.output
    same = files_of(folder / "lost") == files_of(unbroken)
    print(
        f"a node killed after {lost_at} files: {images_of(done.output)} images in {seconds:.1f} s, "
        f"files {'the same, byte by byte' if same else 'NOT the same'} as without"
    )
    for line in done.output.splitlines():
        if "has lost nodes" in line or "detectors:" in line:
            print(f"   {line}")


def files_of(out: Path) -> dict[str, bytes]:
    """Read all files of an output."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


if __name__ == "__main__":
    main()
