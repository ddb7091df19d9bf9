"""What a run with nothing to do costs at 10,000, 100,000 and 1,000,000 images.

The names are made up and the output is complete: its plan is made by vlray's own functions, its
files are tiny Parquet, and one shard in a hundred has a failed image. So what is measured is
listing, comparing and looking for what is missing: seconds and peak memory of ``vlray extract``,
and microseconds an image beyond the seconds of a run over one image.
With ``--directory`` the names are empty files in folders of a thousand rather
than lines of a list file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from tests.benchmarks.commands import Finished, extract_command, run, shown
from tests.benchmarks.report import print_header, print_table, verdict
from vlray.config.extract import ExtractConfig
from vlray.detect.load import settled
from vlray.images.find import list_images
from vlray.regions import parts
from vlray.regions.claim import claim
from vlray.regions.schema import FAILURES
from vlray.settings.reader import from_cli
from vlray.stream import plan as plans
from vlray.stream.identity import identity_of

SECONDS, GIB = 60.0, 1.5
SHARDS_WITHOUT_FAILURES = 100  # one shard in so many has a file of failures, which is read


def main() -> None:
    """Read the options, make each output, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", action="store_true", help="a directory of empty files")
    args = parser.parse_args()
    kind = "directory" if args.directory else "list file"
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        sources = {
            size: make(folder / str(size), size, args.directory) for size in [1, *args.sizes]
        }
        commands = {
            size: extract_command(source, source.with_name("out"))
            for size, source in sources.items()
        }
        print_header(
            f"listing: a complete output of a {kind}, {args.rounds} rounds",
            shown(commands[args.sizes[-1]]),
        )
        run(commands[1], folder)  # Python's bytecode and the disk's cache are there from now on
        measured: dict[int, list[Finished]] = {size: [] for size in commands}
        for _ in range(args.rounds):
            for size, command in commands.items():
                finished = run(command, folder)
                assert "nothing to do" in finished.output, finished.output
                measured[size].append(finished)
    seconds = {
        size: statistics.median(ended.seconds for ended in measured[size]) for size in measured
    }
    peaks = {size: max(ended.peak_rss for ended in measured[size]) / 2**30 for size in measured}
    rows = [
        [size, seconds[size], peaks[size], (seconds[size] - seconds[1]) / size * 1e6]
        for size in args.sizes
    ]
    print_table(["images", "seconds (median)", "peak RSS, GiB", "us an image"], rows)
    largest = args.sizes[-1]
    print(f"{largest:,} images: {seconds[largest]:.1f} s, {verdict(seconds[largest], SECONDS)}")
    print(f"{largest:,} images: {peaks[largest]:.2f} GiB, {verdict(peaks[largest], GIB)}")


def make(folder: Path, size: int, directory: bool) -> Path:
    """Make a source of ``size`` names and a complete output beside it; give the source."""
    folder.mkdir()
    source = folder / ("names" if directory else "names.txt")
    if directory:
        for name in names(size):
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    else:
        source.write_text("".join(f"{name}\n" for name in names(size)))
    complete(source, folder / "out")
    return source


def names(size: int) -> Iterator[str]:
    """Yield made-up names, a thousand to a folder."""
    for index in range(size):
        yield f"photographs {index // 1000:04d}/COCO_train2014_{index:012d}.jpg"


def complete(source: Path, out: Path) -> None:
    """Write what ``vlray extract`` leaves of an output, but for the regions themselves."""
    config = from_cli(ExtractConfig, [str(source), str(out), "--images.id-rule", "stem"])
    config = config.model_copy(update={"detector": settled(config.detector)})
    listing = list_images(str(source))
    fs, root = pafs.LocalFileSystem(), str(out)
    claim(fs, root, root, identity_of(config, listing))
    empty_plan = plans.load(fs, root)
    new = plans.extend(empty_plan, listing.table, config.output.shard_size)
    plan = plans.store(fs, root, empty_plan, new)
    empty = parts.encode_plain(pa.table({"image_id": pa.array([], pa.string())})).to_pybytes()
    (out / parts.REGIONS).mkdir()
    (out / parts.FAILURES).mkdir()
    failure = {name: ["decode"] if name == "stage" else [None] for name in FAILURES.names}
    failures = parts.encode_plain(pa.table(failure, schema=FAILURES)).to_pybytes()
    for shard in range(plan.shards):
        (out / parts.REGIONS / parts.part_name(shard)).write_bytes(empty)
        if shard % SHARDS_WITHOUT_FAILURES == 0:
            (out / parts.FAILURES / parts.part_name(shard)).write_bytes(failures)


if __name__ == "__main__":
    main()
