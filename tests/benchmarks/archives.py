"""Images a second out of archives and Parquet, beside the same photographs in a folder; listing.

decode    the first stage of an extraction alone (read, decode, resize) over all photographs, where
          the way of reading weighs most; the sources take turns, the table has medians
bucket    requests to a local S3 server and bytes from it, for each member of an archive
listing   a tar and a zip of ``--members`` tiny members, the first time and once they are known:
          seconds with the start of Python, and peak memory of the process

At most 8 minutes on two quiet cores; ``--members 20000 --images 60 --rounds 1`` for a look.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
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
from vlray.images.listing import Listing
from vlray.images.sources import known as known_members
from vlray.images.sources.entry import split_member
from vlray.images.sources.handles import look_again
from vlray.images.sources.members import read_member
from vlray.storage import files
from vlray.stream.decode import DecodeShard
from vlray.stream.rows import ShardTask
from vlray.stream.turns import Prefetch

S3_SERVER = (
    "import sys; from moto.server import ThreadedMotoServer; "
    "server = ThreadedMotoServer('127.0.0.1', 0); server.start(); "
    "print('http://%s:%d' % server.get_host_and_port(), flush=True); sys.stdin.read()"
)
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
    parser.add_argument("--known", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        list_once(args.list, args.known)
        return
    with tempfile.TemporaryDirectory(prefix="vlray-bench-") as name:
        folder = Path(name)
        about = link_photographs(folder / "photos", args.images)
        print_header(f"archives: {about}, {args.rounds} rounds", sys.argv)
        decoding(pack(folder), args.rounds)
        bucket(folder)
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
    """Print what it costs to list archives with many members, and to list them again."""
    rows = []
    for name in ("many.tar", "many.zip"):
        path, known = folder / name, folder / f"{name}.known"
        write_many(path, members)
        for label in (name, f"{name}, known"):
            began = time.perf_counter()
            command = [sys.executable, "-m", "tests.benchmarks.archives", "--list", str(path)]
            said = subprocess.check_output([*command, "--known", str(known)], text=True)
            listed, gib, own = said.split()
            seconds = time.perf_counter() - began
            verdicts = verdict(seconds, SECONDS), verdict(float(gib), GIB)
            rows.append((label, listed, seconds, verdicts[0], own, float(gib), verdicts[1]))
        path.unlink()
    head = ("archive", "members", "seconds", f"at most {SECONDS:.0f}", "of these CPU", "GiB")
    print_table((*head, f"at most {GIB}"), rows)


def list_once(archive: str, known: str) -> None:
    """List an archive; print the members, the peak memory in GiB and the seconds of CPU time."""
    fs, path = files.resolve(known)
    listing = list_images(archive, known=known_members.load(fs, path))
    known_members.store(fs, path, listing.members)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(listing.table.num_rows, usage.ru_maxrss / 2**20, f"{usage.ru_utime + usage.ru_stime:.1f}")


def bucket(folder: Path) -> None:
    """Print what members in a bucket cost: requests and bytes, by a proxy that counts."""
    with contextlib.ExitStack() as stack:
        url = started(stack, S3_SERVER)
        counting = [sys.executable, str(Path(__file__).parents[1] / "failing_proxy.py"), url]
        proxy = stack.enter_context(
            subprocess.Popen(counting, stdout=subprocess.PIPE, text=True, env=os.environ)
        )
        stack.callback(proxy.kill)
        assert proxy.stdout is not None
        counted_url = proxy.stdout.readline().strip()
        answers: list[list[str]] = []
        reader = threading.Thread(target=lambda: answers.extend(map(str.split, proxy.stdout)))
        reader.start()
        os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        fs, bucket = files.resolve(f"s3://bench?endpoint_override={url}&allow_bucket_creation=true")
        fs.create_dir(bucket)
        measured = []
        for name in ("photos.tar", "STORED.zip", "DEFLATED.zip", "photos.parquet"):
            files.write_atomic(fs, f"{bucket}/{name}", (folder / name).read_bytes())
            begin = len(answers)
            listing = list_images(f"s3://bench/{name}?endpoint_override={counted_url}")
            time.sleep(1)
            middle = len(answers)
            size = sum(digest_sizes(listing))
            time.sleep(1)  # the proxy's lines arrive a little later
            measured.append((name, listing.table.num_rows, size, begin, middle, len(answers)))
        proxy.kill()
        reader.join()
    rows = []
    for name, members, size, begin, middle, end in measured:
        gets = [int(n) for method, _, n in answers[middle:end] if method == "GET"]
        heads = sum(method == "HEAD" for method, *_ in answers[middle:end])
        listed = sum(int(n) for method, _, n in answers[begin:middle] if method == "GET")
        of_size = sum(gets) / size
        rows.append((name, members, listed / members, len(gets) / members, heads, of_size))
    head = ("archive in a bucket", "members", "bytes a member, listing", "GETs a member")
    print_table((*head, "other requests", "bytes read / bytes of the members"), rows)


def digest_sizes(listing: Listing) -> Iterator[int]:
    """Read all images of a listing, as a shard does, and yield their sizes."""
    look_again()
    for row in listing.table.to_pylist():
        fs, path = files.locate(listing.root, row["path"])
        yield len(read_member(fs, split_member(path)[0], row["place"]))


def started(stack: contextlib.ExitStack, program: str) -> str:
    """Start a server that prints its URL and ends with its standard input."""
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    assert process.stdout is not None
    return next(line.strip() for line in process.stdout if line.startswith("http"))


def write_many(path: Path, members: int) -> None:
    """Write an archive with many tiny members."""
    data = b"x" * 100
    if path.suffix == ".tar":
        # Headers by hand: tarfile takes longer to write them than vlray to read them.
        info = tarfile.TarInfo("0" * 9 + ".jpg")
        info.size = len(data)
        header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        total = int(header[148:154], 8)  # the checksum
        body = data + bytes(tarfile.BLOCKSIZE - len(data))
        with path.open("wb") as file:
            for number in range(members):
                digits = b"%09d" % number
                header[:9] = digits
                header[148:154] = b"%06o" % (total + sum(digits) - 9 * ord("0"))
                file.write(header + body)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        return
    with zipfile.ZipFile(path, "w") as file:
        for number in range(members):
            file.writestr(zipfile.ZipInfo(f"{number:09d}.jpg"), data)


if __name__ == "__main__":
    main()
