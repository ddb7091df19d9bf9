"""Whether memory stays flat: of the driver and the detector's actors, after 200 and 2,000 images.

``vlray extract`` with the tests' ``grid_detector.py`` on photographs that are linked under many
names and resized to 640 pixels (or with ``lite``, made small, with ``--lite``). Each process is
sampled all the time; "after 200" is the median of its samples while 200 to 400 images are written,
"after 2,000" likewise.

Judged is USS, the memory that is a process's own and that would be free without it. RSS is given
as well: it counts pages of Ray's shared object store that the process has ever touched, and these
belong to the store, which reuses them; the store's own peak is given by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.commands import extract_command, run, shown
from tests.benchmarks.photographs import link_photographs
from tests.benchmarks.report import print_header, print_table, verdict

TARGET = 1.10
EARLY, LATE, WINDOW = 200, 2000, 200
SHARD = 20
GRID = Path(__file__).parents[1] / "stream" / "grid_detector.py"
MIB = 2**20


@dataclass
class Samples:
    """What was seen of the run's processes, by role."""

    folder: Path
    uss: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    rss: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    store: int = 0  # peak of the object store's shared memory, bytes
    everything: int = 0  # peak of USS of all processes together, and the store

    def __call__(self, driver: psutil.Process, _seconds: float) -> None:
        """Take one sample of each process."""
        done = SHARD * len(list(self.folder.glob("regions/part-*")))
        total = 0
        for process in [driver, *_descendants(driver)]:
            with contextlib.suppress(psutil.Error, OSError):
                memory = process.memory_full_info()
                role = _role(process, driver)
                total += memory.uss
                if role:
                    self.uss[role].append((done, memory.uss))
                    self.rss[role].append((done, memory.rss))
                elif process.name() == "raylet":
                    self.store = max(self.store, _shared_memory(process))
        self.everything = max(self.everything, total + self.store)


def main() -> None:
    """Read the options, run the command under watch, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--lite", action="store_true", help="lite at 128 pixels, not the grid")
    args = parser.parse_args()
    if args.images < LATE + WINDOW:
        parser.error(f"--images {args.images} is below {LATE + WINDOW}")
    detector = (
        ["--detector.min-size=128", "--detector.max-size=213"]
        if args.lite
        else [
            f"--detector.name={GRID}:GridDetector",
            "--detector.min-boxes=16",
            "--detector.min-size=640",
            "--detector.max-size=1066",
        ]
    )
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        what = link_photographs(folder / "photographs", args.images)
        command = extract_command(
            folder / "photographs", folder / "out", f"--output.shard-size={SHARD}", *detector
        )
        print_header(f"memory: {what}", shown(command))
        samples = Samples(folder / "out")
        finished = run(command, folder, watch=samples, every=0.25)
    rows: list[list[object]] = []
    for role in sorted(samples.uss):
        for kind, seen in (("USS", samples.uss[role]), ("RSS", samples.rss[role])):
            early, late = _after(seen, EARLY), _after(seen, LATE)
            rows.append([role, kind, early, late, late / early])
    print_table(["process", "", "MiB after 200", "after 2,000", "ratio"], rows)
    print(
        f"object store: at most {samples.store / MIB:,.0f} MiB; all processes and the store: "
        f"at most {samples.everything / MIB:,.0f} MiB; {finished.seconds:.0f} s"
    )
    for role, kind, _, _, ratio in rows:
        if kind == "USS":
            print(f"{role}: {ratio:.3f}, {verdict(float(str(ratio)), TARGET)}")


def _after(seen: list[tuple[int, int]], images: int) -> float:
    """Give the median of the samples from so many images on, MiB."""
    values = [value for done, value in seen if images <= done < images + WINDOW]
    if not values:
        raise RuntimeError(f"no samples between {images} and {images + WINDOW} images; give --lite")
    return statistics.median(values) / MIB


def _role(process: psutil.Process, driver: psutil.Process) -> str:
    """Name the processes that are judged; the others are only summed up."""
    if process.pid == driver.pid:
        return "driver"
    title = " ".join(process.cmdline())
    return f"actor {process.pid}" if "ExtractShard" in title and "MapWorker" in title else ""


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _shared_memory(raylet: psutil.Process) -> int:
    """Give the bytes of the object store's file that are in memory; Linux only."""
    total = 0
    for descriptor in Path(f"/proc/{raylet.pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink().is_relative_to("/dev/shm"):
                total += descriptor.stat().st_blocks * 512
    return total


if __name__ == "__main__":
    main()
