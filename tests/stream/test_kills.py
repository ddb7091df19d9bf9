"""Kill a run at random moments: after the next run, the output is that of an unbroken one.

One round of each kind by default; ``pytest tests/stream/test_kills.py --kill-rounds 20`` for a
thorough night.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.deadlines import wait_until
from vlray import extract

pytestmark = [pytest.mark.timeout(3600)]


class Bench:
    """Runs of one command on one folder of images, against the session's cluster."""

    def __init__(self, address: str, images: Path, folder: Path, flags: list[str]) -> None:
        self.address, self.images, self.folder, self.flags = address, images, folder, flags
        self.environment = os.environ | {"RAY_ADDRESS": address}

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vlray.extract", str(self.images), str(out)]
        with (self.folder / "words.txt").open("ab") as log:
            return subprocess.Popen(
                [*command, *self.flags],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def finish(self, out: Path) -> None:
        """Run the command to its end, in this process."""
        extract.main([str(self.images), str(out), *self.flags])

    def words(self) -> str:
        return (self.folder / "words.txt").read_text()

    def ended(self, process: subprocess.Popen[bytes], *statuses: int) -> None:
        """Wait for the end of a run, and show its last lines if its exit status is another one."""
        assert process.wait() in statuses, self.words()[-5000:]


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in ("regions", "failures", "plan")
        for path in sorted((out / folder).glob("*"))
    }


@pytest.fixture(scope="module")
def bench(
    ray_cluster: str,
    many_photos: Path,
    grid_detector: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    folder = tmp_path_factory.mktemp("kills")
    # Trouble is a file; while it exists, the detector raises now and then. While "fatal" exists,
    # it aborts on bright images.
    names = {name: str(folder / name) for name in ("trouble", "fatal")}
    options = json.dumps({"seconds": 0.03} | names)
    flags = ["--detector.name", grid_detector, "--detector.options", options]
    return Bench(ray_cluster, many_photos, folder, [*flags, "--shard-size", "6", "--actors", "2"])


@pytest.fixture(scope="module")
def unbroken(bench: Bench) -> dict[str, bytes]:
    out = bench.folder / "unbroken"
    bench.finish(out)
    files = files_of(out)
    assert len([name for name in files if name.startswith("regions")]) == 11
    return files


def test_a_run_in_this_process_writes_the_same_bytes(
    bench: Bench, unbroken: dict[str, bytes]
) -> None:
    out = bench.folder / "in this process"
    extract.main([str(bench.images), str(out), *bench.flags, "--cluster.address", "none"])
    assert files_of(out) == unbroken


def wait_for_parts(out: Path, process: subprocess.Popen[bytes], count: int) -> None:
    def are_there() -> bool:
        return len(list((out / "regions").glob("part-*"))) >= count

    wait_until(lambda: are_there() or process.poll() is not None, 240, every=0.02)


def kill_driver(bench: Bench, process: subprocess.Popen[bytes], moment: random.Random) -> None:
    process.kill()
    process.wait()


def interrupt_driver(bench: Bench, process: subprocess.Popen[bytes], moment: random.Random) -> None:
    process.send_signal(signal.SIGINT)
    # 1 and -2: while Python itself was still starting, where nobody can catch it.
    bench.ended(process, 130, 0, 1, -signal.SIGINT)


def kill_workers(bench: Bench, process: subprocess.Popen[bytes], moment: random.Random) -> None:
    """Kill an actor or task of the run three times; the run itself goes on to its end."""
    for _ in range(3):
        victims = [child for child in psutil.Process().children(recursive=True) if works(child)]
        if victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                moment.choice(victims).send_signal(signal.SIGKILL)
        time.sleep(moment.random())
    bench.ended(process, 0)


def works(child: psutil.Process) -> bool:
    """Return whether a process is an actor of the run; one that just ended is not."""
    try:
        names = child.name() + "".join(child.cmdline()[:1])
    except psutil.NoSuchProcess:
        return False
    return "MapWorker" in names or "ExtractShard" in names


KINDS: dict[str, Callable[[Bench, subprocess.Popen[bytes], random.Random], None]] = {
    "the driver is killed": kill_driver,
    "the driver is interrupted": interrupt_driver,
    "actors and tasks are killed": kill_workers,
}


@pytest.fixture(scope="module")
def of_tar(bench: Bench, unbroken: dict[str, bytes]) -> tuple[Bench, dict[str, bytes]]:
    """Runs on the same images in a tar, and the output of an unbroken one."""
    archive = bench.folder / "many.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(bench.images.iterdir()):
            tar.add(path, path.name)
    packed = Bench(bench.address, archive, bench.folder, bench.flags)
    out = bench.folder / "unbroken of tar"
    extract.main([str(archive), str(out), *packed.flags, "--cluster.address", "none"])
    whole, members = rows_of(bench.folder / "unbroken"), rows_of(out)
    for rows in members.values():
        for row in rows:
            row["path"] = row["path"].removeprefix("many.tar!")
    assert members == whole
    return packed, files_of(out)


# Each kind with one source; with --thorough, both.
KILLED = [
    pytest.param(
        kind,
        source,
        marks=[] if (source == "tar") == (kind == "the driver is killed") else pytest.mark.thorough,
    )
    for kind in KINDS
    for source in ("folder", "tar")
]


@pytest.mark.parametrize(("kind", "source"), KILLED)
def test_after_a_kill_the_next_run_gives_the_unbroken_output(
    kind: str,
    source: str,
    bench: Bench,
    unbroken: dict[str, bytes],
    of_tar: tuple[Bench, dict[str, bytes]],
    request: pytest.FixtureRequest,
) -> None:
    bench, unbroken = {"folder": (bench, unbroken), "tar": of_tar}[source]
    for seed in range(request.config.getoption("--kill-rounds")):
        moment = random.Random(seed)
        out = bench.folder / f"{kind} {source} {seed}".replace(" ", "-")
        for _ in range(1 + seed % 2):  # in every second round, the rerun is killed as well
            process = bench.start(out)
            wait_for_parts(out, process, moment.randrange(0, 8))
            time.sleep(moment.random() * 0.3)
            KINDS[kind](bench, process, moment)
        bench.finish(out)
        assert files_of(out) == unbroken, f"round {seed}"


def replaced(images: Path, folder: Path) -> Path:
    """Copy the images, with every fifth file replaced by another one's content."""
    folder.mkdir()
    paths = sorted(images.iterdir())
    for index, path in enumerate(paths):
        shutil.copy2(paths[index - 7] if index % 5 == 2 else path, folder / path.name)
        if index % 5 == 2:
            os.utime(folder / path.name, ns=(10**18, 10**18))
    return folder


def rows_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Read both tables as any reader of Parquet does, without which part a row is in."""
    tables = {}
    for folder in ("regions", "failures"):
        rows = [r for path in (out / folder).iterdir() for r in pq.read_table(path).to_pylist()]
        tables[folder] = sorted(rows, key=lambda row: str(row["image_id"]))
    return tables


@pytest.mark.parametrize("kind", ["the driver is killed", "actors and tasks are killed"])
def test_a_killed_rerun_with_replaced_images_ends_as_if_it_were_the_first(
    kind: str,
    bench: Bench,
    unbroken: dict[str, bytes],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    images = replaced(bench.images, tmp_path / bench.images.name)
    fresh = Bench(bench.address, images, bench.folder, bench.flags)
    fresh.finish(tmp_path / "fresh")
    expected = rows_of(tmp_path / "fresh")
    for seed in range(request.config.getoption("--kill-rounds")):
        moment = random.Random(seed)
        out = tmp_path / f"out-{seed}"
        if seed % 2:  # every second one was killed in its first run as well
            process = bench.start(out)
            wait_for_parts(out, process, moment.randrange(3, 8))
            kill_driver(bench, process, moment)
        else:
            shutil.copytree(bench.folder / "unbroken", out)
        process = fresh.start(out)
        time.sleep(moment.random() * 8)
        KINDS[kind](bench, process, moment)
        fresh.finish(out)
        assert rows_of(out) == expected, f"round {seed}"


@pytest.mark.thorough
def test_kills_while_an_image_is_singled_out_cost_no_other_image(
    bench: Bench, unbroken: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    whole = rows_of(bench.folder / "unbroken")
    means = sorted(mean_of(row) for row in whole["regions"])
    fatal = bench.folder / "fatal"
    fatal.write_text(str((means[-2] + means[-1]) / 2))
    try:
        for seed in range(request.config.getoption("--kill-rounds")):
            moment = random.Random(seed)
            out = bench.folder / f"fatal-{seed}"
            process = bench.start(out)
            wait_until(lambda: isolated() or process.poll() is not None, 240, every=0.05)  # noqa: B023 - called before the next round
            for _ in range(3):
                children = psutil.Process().children(recursive=True)
                victims = [child for child in children if works(child)] + isolated()
                if victims:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        moment.choice(victims).kill()
                time.sleep(moment.random())
            if seed % 2:
                kill_driver(bench, process, moment)
                bench.finish(out)
            bench.ended(process, -signal.SIGKILL if seed % 2 else 0)
            rows = rows_of(out)
            (culprit,) = (row for row in rows["failures"] if row["stage"] == "process")
            assert culprit["error"] == "ProcessEnded"
            name = culprit["image_id"]
            assert rows["failures"] == sorted(
                [*whole["failures"], culprit], key=lambda row: str(row["image_id"])
            )
            assert rows["regions"] == [r for r in whole["regions"] if r["image_id"] != name]
    finally:
        fatal.unlink()


def mean_of(row: dict[str, Any]) -> float:
    """Return the mean colour of an image, from the colours of its cells of equal size."""
    feats = np.array(row["visual_feats"], np.float32).reshape(row["num_boxes"], -1)
    return float(feats[:, :3].mean())


def isolated() -> list[psutil.Process]:
    """Return the child processes in which detectors are isolated."""
    children = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "vlray.cluster.expendable" in child.cmdline():
                children.append(child)
    return children


def test_after_a_raising_detector_the_next_run_gives_the_unbroken_output(
    bench: Bench, unbroken: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    trouble = bench.folder / "trouble"
    for seed in range(request.config.getoption("--kill-rounds")):
        moment = random.Random(seed)
        out = bench.folder / f"raising-{seed}"
        process = bench.start(out)
        wait_for_parts(out, process, moment.randrange(0, 6))
        trouble.touch()
        try:
            bench.ended(process, 0, 1)
        finally:
            trouble.unlink()
        bench.finish(out)
        assert files_of(out) == unbroken, f"round {seed}"


def test_a_full_disk_ends_the_run_with_its_name_and_loses_nothing(
    bench: Bench, unbroken: dict[str, bytes]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill up")
    disk = bench.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        ballast = disk / "ballast"
        out = disk / "out"
        process = bench.start(out)
        wait_for_parts(out, process, 2)
        with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))
        bench.ended(process, 1)
        assert "No space left on device" in bench.words()
        assert not list((out / "regions").glob(".tmp-*"))
        ballast.unlink()
        bench.finish(out)
        assert files_of(out) == unbroken
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
