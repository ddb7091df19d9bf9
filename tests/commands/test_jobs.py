"""jobs/extract.sh submits what it says, to a cluster that ``ray start`` began."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from vlray import extract
from vlray.regions.output import open_output

SCRIPT = Path(__file__).parents[2] / "jobs" / "extract.sh"
RAY = Path(sys.executable).with_name("ray")
TOKEN = "0123456789abcdef0123456789abcdef"

pytestmark = [
    pytest.mark.skipif(
        not RAY.exists() or find_spec("aiohttp_cors") is None,
        reason="the job server comes with ray[default], which is not installed beside Python",
    ),
    pytest.mark.timeout(400),
]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(url: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop ``ray start --block`` with all that it started, and wait until it is gone."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in psutil.wait_procs(family[1:], timeout=2)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(family[1:], timeout=10)


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """The environment in which ``ray`` finds a cluster of one node, closed to others by a token."""
    folder = tempfile.mkdtemp(prefix="vj", dir="/tmp")  # sockets want a short path
    port, dashboard, agent = free_ports(3)
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{RAY.parent}:{os.environ['PATH']}",
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=3", "--temp-dir", folder]
    command += [f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-agent-listen-port={agent}"]
    command += ["--object-store-memory=200000000"]
    with Path(folder, "words.txt").open("wb") as words:
        process = subprocess.Popen(
            command,
            env={name: environment[name] for name in environment if name != "RAY_ADDRESS"},
            stdout=words,
            stderr=words,
        )
    try:
        deadline = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{dashboard}/api/jobs/"):
            said = Path(folder, "words.txt").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        yield environment
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def submit(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder of the user's, where paths may be relative to."""
    return subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_job_gives_the_output_of_a_local_run_and_its_log_has_plain_lines(
    head: dict[str, str],
    ray_cluster: str,
    photos: Path,
    grid_detector: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my photos").symlink_to(photos)
    # One image (chelsea.png) is too bright for the detector, whose actor says so.
    flags = ["--detector.name", grid_detector, "--detector.options", '{"poison": 115}']
    flags += ["--shard-size", "2", "--images.dataset", "photos"]
    done = submit(head, tmp_path, "my photos", "out", *flags)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "5/5 images" in said
    assert "%|" not in said  # a bar's

    job_ids = re.findall(r"raysubmit_\w+", said)
    logs = subprocess.run(
        [str(RAY), "job", "logs", job_ids[0]],
        env=head,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert re.search(r"5/5 images, \d failed", logs), logs
    assert "%|" not in logs

    (log,) = (tmp_path / "runs").glob("default/extract-*/*.log")
    assert re.search(r"pid \d+ on .*too bright for me", log.read_text())

    monkeypatch.chdir(tmp_path)
    extract.main([str(photos), "local", *flags])
    job, local = open_output("out"), open_output("local")
    assert job.image_ids == local.image_ids
    assert len(local.failures()) == 5 - len(local) > 0
    for folder in ("regions", "failures", "plan"):
        there, here = (
            {path.name: path.read_bytes() for path in (tmp_path / out / folder).iterdir()}
            for out in ("out", "local")
        )
        if folder == "regions":  # their metadata names the folder of the images
            assert there.keys() == here.keys()
        else:
            assert there == here
    assert job.read(job.image_ids).equals(local.read(local.image_ids))


def test_a_job_that_fails_ends_the_script_with_its_message(
    head: dict[str, str], tmp_path: Path
) -> None:
    done = submit(head, tmp_path, "nowhere", "out")
    assert done.returncode == 1
    assert f"{tmp_path}/nowhere" in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_the_script_says_how_to_call_it(tmp_path: Path) -> None:
    done = submit(dict(os.environ), tmp_path, "--min-boxes", "10")
    assert done.returncode == 2
    assert done.stderr == "usage: extract.sh IMAGES OUT [options of vlray extract]\n"
