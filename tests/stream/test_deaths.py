"""An image that ends the detector's process costs only itself."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlray.cluster.expendable import ChildEndedError
from vlray.cluster.journal import DEATHS, Journal
from vlray.config.cluster import ClusterSection
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection
from vlray.images.decode import ImageError
from vlray.regions.output import open_output
from vlray.stream.decoder import SeparateDecoder
from vlray.stream.detect import LAST_DEATHS, DetectOptions, DetectShard
from vlray.stream.local import MARKER
from vlray.stream.nodes import STALL_S, stall_limit
from vlray.stream.rows import DecodedShard, ImageRow, ShardTask
from vlray.stream.run import DetectorError, ExtractResult, extract

FATAL = f"{Path(__file__).with_name('fatal_detector.py')}:FatalDetector"
GOOD = ("a", "c", "d", "e")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small images; b is black."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate("abcde"):
        pixels = np.full((20, 30, 3), 0 if name == "b" else 40 * (index + 1), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def config_of(folder: Path, out: Path, options: dict[str, Any], **cluster: Any) -> ExtractConfig:
    return ExtractConfig(
        images=ImagesSection(root=str(folder)),
        detector=DetectorSection(name=FATAL, options=options),
        output=OutputSection(path=str(out)),
        cluster=ClusterSection(**cluster),
    )


def check(out: Path, reason: str) -> None:
    output = open_output(str(out))
    assert tuple(output.image_ids) == GOOD
    (failure,) = output.failures().to_pylist()
    assert (failure["image_id"], failure["stage"]) == ("b", "process")
    assert failure["error"] == "ProcessEnded"
    assert reason in failure["reason"]


@pytest.mark.usefixtures("processes")
def test_a_crash_in_a_run_without_ray_costs_one_image_and_is_not_repeated(
    folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"mode": "abort"}, address="none")
    result = extract(config)
    assert (result.images, result.failed, result.raised) == (4, 1, 0)
    check(tmp_path / "out", "SIGABRT")
    assert extract(config).images == 0
    # The rows are those of a run in which nothing crashes.
    whole = open_output(extract(config_of(folder, tmp_path / "whole", {}, address="none")).output)
    output = open_output(str(tmp_path / "out"))
    for image_id in GOOD:
        np.testing.assert_array_equal(output[image_id].visual_feats, whole[image_id].visual_feats)


@pytest.mark.usefixtures("processes")
def test_after_a_crash_of_the_decoder_the_next_run_singles_the_image_out(
    folder: Path, tmp_path: Path
) -> None:
    # A crash in this process would end the test.
    def result_of(out: Path) -> ExtractResult:
        out.mkdir()
        (out / MARKER).touch()  # of the run that crashed
        options = {"mode": "abort early"}
        return extract(config_of(folder, out, options, address="none", image_timeout=30))

    result = result_of(tmp_path / "out")
    assert (result.images, result.failed, result.raised) == (4, 1, 0)
    check(tmp_path / "out", "SIGABRT")
    # The files are those of a run without the image, as far as it matters: it fails in any case.
    (folder / "b.png").write_bytes(b"no image")
    result_of(tmp_path / "whole")
    parts = [tmp_path / out / "regions" / "part-00000.parquet" for out in ("out", "whole")]
    assert parts[0].read_bytes() == parts[1].read_bytes()
    assert not (tmp_path / "out" / MARKER).exists()


@pytest.mark.parametrize("mode", [pytest.param("hang", marks=pytest.mark.thorough), "hang early"])
def test_a_hang_on_ray_ends_two_processes_and_costs_one_image(
    mode: str, ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"mode": mode}, image_timeout=1.5, actors=1)
    result = extract(config)
    assert (result.images, result.failed) == (4, 1)
    check(tmp_path / "out", "no result within 1.5 s")


@pytest.mark.usefixtures("processes")
def test_a_time_limit_holds_while_other_threads_begin_and_end_theirs() -> None:
    code = (
        "import sys, threading, time\n"
        "from vlray.stream.limits import time_limit\n"
        "def others():\n"
        "    for seconds in (50, 100):\n"
        "        with time_limit(seconds): pass\n"
        "with time_limit(100), time_limit(100): pass\n"  # ends in time
        "print('first', flush=True)\n"
        "with time_limit(0.3):\n"
        "    thread = threading.Thread(target=others); thread.start(); thread.join()\n"
        "    print('hangs', flush=True)\n"
        "    time.sleep(100)\n"
        "print('survived')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (1, ["first", "hangs"]), done.stderr


def test_a_detector_that_cannot_be_loaded_ends_the_run_with_one_line(
    ray_cluster: str, folder: Path, tmp_path: Path
) -> None:
    config = config_of(folder, tmp_path / "out", {"broken": True}, actors=1)
    with pytest.raises(DetectorError) as caught:
        extract(config)
    assert str(caught.value) == (
        "the detector cannot be loaded: RuntimeError: no such weights: model.pth"
    )
    assert "fatal_detector.py" in str(caught.value.__cause__)  # the traceback, for the log


def deaths(journal: Journal, work: str, number: int) -> None:
    for _ in range(number):
        journal.begin(work)


@pytest.mark.usefixtures("processes")
def test_only_the_image_that_also_ends_the_process_around_its_own_is_given_up(
    tmp_path: Path,
) -> None:
    options = DetectOptions(
        DetectorSection(name=FATAL, batch_size=2), "float32", str(tmp_path), {}, 1
    )
    journal = Journal()
    detect = DetectShard(options, journal)
    detect.load()

    def shard(deaths: int) -> DecodedShard:
        image = {"image_height": 1, "image_width": 1, "boxes": None}
        rows: list[ImageRow] = [
            {"image_id": name, "path": name, "split": "all", "image": np.ones((1, 1, 3), np.uint8)}
            | image
            for name in "abcd"
        ]
        return DecodedShard(ShardTask(7, 0, 4, deaths), rows)

    # Actors died twice without isolation; twice with c and d; and twice with c alone.
    deaths(journal, "detect c and 1 more", DEATHS)
    deaths(journal, "detect c and 0 more", DEATHS)
    with contextlib.closing(detect):
        detected = detect(shard(3 * DEATHS), lambda rows: None)
        assert detected.regions["image_id"].to_pylist() == ["a", "b", "d"]
        assert detected.failures.select(["image_id", "stage", "reason"]).to_pylist() == [
            {
                "image_id": "c",
                "stage": "process",
                "reason": "the detector's process, and the one around it, ended 2 times on it",
            }
        ]
    detected = detect(shard(0), lambda rows: None)  # the ends of the work are recorded
    assert detected.regions.num_rows == 4
    # Innocent images do not become failures because their actors are killed all the time.
    detected = detect(shard(LAST_DEATHS), lambda rows: None)
    assert detected.problem == "shard 7 ended its process 20 times, also with isolated images"


@pytest.mark.usefixtures("processes")
def test_decoding_gives_up_an_image_that_also_ends_the_process_around_its_own() -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 3)).save(data, "PNG")
    journal = Journal()
    deaths(journal, "decode a", DEATHS)
    with contextlib.closing(SeparateDecoder(100, None, journal, 30.0, 0.0)) as decoder:
        with pytest.raises(ChildEndedError, match="the one around it, ended 2 times"):
            decoder(data.getvalue(), "a")
        assert decoder(data.getvalue(), "a")[:2] == (3, 4)
        with pytest.raises(ImageError, match="the file is empty"):
            decoder(b"", "b")


def test_the_limit_without_progress_grows_with_the_time_limit_of_an_image() -> None:
    images, output = ImagesSection(root="photos"), OutputSection(path="out")
    for seconds, batch, limit in ((600, 0, 4800), (60, 32, 1920)):
        config = ExtractConfig(
            images=images,
            output=output,
            detector=DetectorSection(batch_size=batch),
            cluster=ClusterSection(image_timeout=seconds),
        )
        assert stall_limit(config) == STALL_S + limit
