"""Jobs on a cluster that ``ray start`` began: by jobs/extract.sh, and by Ray's own job API."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deadlines import wait_until
from tests.fixtures.job_server import HEADERS, RAY, get
from vlray import extract
from vlray.regions.output import open_output
from vlray.runs.run import Run

SCRIPT = Path(__file__).parents[2] / "jobs" / "extract.sh"


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
        check=False,
    )


@pytest.mark.thorough
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


@pytest.mark.usefixtures("processes")
def test_the_script_says_how_to_call_it(tmp_path: Path) -> None:
    done = submit(dict(os.environ), tmp_path, "--min-boxes", "10")
    assert done.returncode == 2
    assert done.stderr == "usage: extract.sh IMAGES OUT [options of vlray extract]\n"


# --- Ray's job API: what a scheduler of jobs uses -------------------------------------------------


class Job:
    """A job of ``python -m vlray.extract`` on the head."""

    def __init__(self, head: dict[str, str], *arguments: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.client = JobSubmissionClient(head["RAY_ADDRESS"], headers=HEADERS)
        self.id = self.client.submit_job(
            entrypoint=shlex.join(["python", "-m", "vlray.extract", *arguments])
        )

    @property
    def status(self) -> str:
        return str(self.client.get_job_status(self.id).value)

    @property
    def words(self) -> str:
        return str(self.client.get_job_logs(self.id))

    def follow(self, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Look on until it has ended; gives how."""
        while self.status in ("PENDING", "RUNNING"):
            meanwhile()
            time.sleep(0.5)
        return self.status


def figures_of(head: dict[str, str]) -> dict[str, float]:
    """Read vlray's figures where Prometheus would, by name; those of project story."""
    found = {}
    targets = json.loads(
        Path(head["HEAD_FOLDER"], "prom_metrics_service_discovery.json").read_text()
    )
    for target in targets[0]["targets"]:
        try:
            metrics = get(f"http://{target}/metrics")
        except urllib.error.URLError:
            continue  # Ray announces an agent's address before the agent listens to it
        for line in metrics.splitlines():
            if line.startswith("ray_vlray_") and 'project="story"' in line:
                name, _, rest = line.partition("{")
                found[name] = float(rest.rpartition(" ")[2])
    return found


def test_a_job_is_followed_by_its_json_log_and_its_figures(
    head: dict[str, str], many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    options = {"seconds": 0.1, "poison": 150}
    seen: dict[str, list[float]] = {}

    def look() -> None:
        for name, value in figures_of(head).items():
            seen.setdefault(name, []).append(value)

    job = Job(
        head,
        *(str(many_photos), str(tmp_path / "out"), "--shard-size", "4", "--project", "story"),
        *("--detector.name", grid_detector, "--detector.options", json.dumps(options)),
        *("--env.log-format", "json", "--env.runs-dir", str(tmp_path / "runs")),
    )
    assert job.follow(look) == "SUCCEEDED", job.words

    # Its lines are found through the job API and in the run's log, those of its actors as well.
    (run,) = (tmp_path / "runs" / "story").iterdir()
    said = [json.loads(line) for line in job.words.splitlines() if line.startswith("{")]
    (log,) = run.glob("*.log")
    assert [json.loads(line) for line in log.read_text().splitlines()] == said
    assert {(line["project"], line["run"]) for line in said} == {("story", run.name)}
    assert any(line["message"].startswith("62/62 images") for line in said)
    there = next(line for line in said if "too bright for me" in line["message"])
    assert there["levelname"] == "WARNING"
    assert there["message"].startswith("the detector raised")
    assert there["name"] == "vlray.stream"
    assert there["actor_name"] == "MapWorker(MapBatches(ExtractShard))"
    assert {"timestamp_ns", "process", "node_ip", "node_id", "worker_id", "job_id"} <= there.keys()
    assert Run(run).state == "finished"
    assert Run(run).result.startswith(f"{len(open_output(tmp_path / 'out'))} images, ")

    # The dashboard shows the actor's own log.
    url = f"{head['RAY_ADDRESS']}/api/v0/logs/file?actor_id={there['actor_id']}&suffix=err&lines=-1"
    assert there["message"] in json.dumps(get(url)).replace("\\", "")

    # What was done is at the metrics endpoint after the end, what was left to do meanwhile.
    out = open_output(tmp_path / "out")
    expected = {
        "ray_vlray_images_total": len(out),
        "ray_vlray_failures_total": len(out.failures()),
        "ray_vlray_regions_total": 16 * len(out),
    }
    wait_until(
        lambda: expected.items() <= figures_of(head).items(),
        every=0.5,
        failure=lambda: figures_of(head),
    )
    assert max(seen["ray_vlray_images_left"]) == 62
    assert 0 < max(seen["ray_vlray_shards_in_flight"]) <= 16
    assert max(seen["ray_vlray_images_per_second"]) > 0


def test_a_job_that_is_stopped_midway_is_finished_by_the_next(
    head: dict[str, str], many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [str(many_photos), str(out), "--shard-size", "4", "--detector.name", grid_detector]
    arguments += ["--env.runs-dir", str(tmp_path / "runs")]
    slow = Job(head, *arguments, "--detector.options", '{"seconds": 0.4}')
    while len(list(out.glob("regions/part-*"))) < 3 and slow.status in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    slow.client.stop_job(slow.id)
    assert slow.follow() == "STOPPED", slow.words
    (first,) = (tmp_path / "runs" / "default").iterdir()
    assert Run(first).state == "stopped"
    written = {path: path.stat().st_mtime_ns for path in out.glob("regions/part-*")}
    assert 3 <= len(written) < 16

    again = Job(head, *arguments, "--detector.options", '{"seconds": 0.4}')
    assert again.follow() == "SUCCEEDED", again.words
    assert f"{62 - 4 * len(written)} to process" in again.words
    assert {path: path.stat().st_mtime_ns for path in written} == written  # done once
    done = open_output(out)
    ids = [*done.image_ids, *done.failures()["image_id"].to_pylist()]
    assert sorted(ids) == sorted(path.stem for path in many_photos.iterdir())
