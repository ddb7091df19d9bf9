"""Extractions in this process, and when Ray takes over; test_kills compares the bytes of both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from vlray.config.cluster import ClusterSection
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection
from vlray.stream import local
from vlray.stream.run import extract

FS = LocalFileSystem()


def config_of(images: Path, out: Path, detector: str = "lite", **cluster: Any) -> ExtractConfig:
    return ExtractConfig(
        images=ImagesSection(root=str(images)),
        detector=DetectorSection(name=detector),
        output=OutputSection(path=str(out), shard_size=7),
        cluster=ClusterSection(**cluster),
    )


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the Ray of other tests in this process."""
    monkeypatch.setattr(local, "is_cluster_configured", lambda: False)


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("processes")
def test_an_interrupted_run_is_finished_by_the_next(
    many_photos: Path, grid_detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    extract(config_of(many_photos, whole, grid_detector, address="none"))

    written: list[int] = []
    detect = local.ShardWork.detect

    def interrupted(self: Any, decoded: Any) -> Any:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(0)
        return detect(self, decoded)

    with monkeypatch.context() as patch:
        patch.setattr(local.ShardWork, "detect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(config_of(many_photos, out, grid_detector, address="none"))
    assert len(list((out / "regions").iterdir())) == 3
    assert not (out / local.MARKER).exists()
    assert extract(config_of(many_photos, out, grid_detector, address="none")).images < 60
    assert files_of(out) == files_of(whole)


@pytest.mark.usefixtures("no_cluster")
def test_a_run_that_a_crash_ended_leaves_the_next_one_to_ray(tmp_path: Path) -> None:
    config = config_of(Path("photos"), tmp_path)
    assert local.runs_locally(config, 6, FS, str(tmp_path))
    with local._marked(FS, str(tmp_path)):
        # A crash now would leave this file.
        assert (tmp_path / local.MARKER).exists()
        assert not local.runs_locally(config, 6, FS, str(tmp_path))
    assert local.runs_locally(config, 6, FS, str(tmp_path))


@pytest.mark.usefixtures("no_cluster")
def test_a_run_that_was_stuck_when_it_was_interrupted_counts_as_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "STUCK_S", 0.0)
    with pytest.raises(KeyboardInterrupt), local._marked(FS, str(tmp_path)):
        raise KeyboardInterrupt
    assert not local.runs_locally(config_of(Path("photos"), tmp_path), 6, FS, str(tmp_path))
    with pytest.raises(RuntimeError), local._marked(FS, str(tmp_path)):
        raise RuntimeError("an error is not a crash")
    assert local.runs_locally(config_of(Path("photos"), tmp_path), 6, FS, str(tmp_path))


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    ("images", "detector", "cluster", "expected"),
    [
        (6, "lite", {}, True),
        (5_000, "lite", {}, False),
        (5_000, "lite", {"address": "none"}, True),
        (6, "lite", {"address": "local"}, False),
        (6, "lite", {"actors": 2}, False),
        (6, "lite", {"progress": "lines"}, True),
        (60, "vg-caffe", {}, False),
        (4, "file.py:Own", {}, True),
    ],
)
def test_small_work_needs_no_ray(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: int,
    detector: str,
    cluster: dict[str, Any],
    expected: bool,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    config = config_of(Path("photos"), tmp_path, detector, **cluster)
    assert local.runs_locally(config, images, FS, str(tmp_path)) is expected


def test_a_configured_cluster_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not local.runs_locally(config_of(Path("photos"), tmp_path), 6, FS, str(tmp_path))


@pytest.mark.usefixtures("processes")
def test_the_command_runs_without_ray(photos: Path, grid_detector: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from vlray.cli import main\n"
        "main(['extract', *sys.argv[1:]])\n"
        "assert 'ray' not in sys.modules and 'torch' not in sys.modules\n"
    )
    arguments = [str(photos), str(tmp_path / "out"), "--detector.name", grid_detector]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--cluster.address", "none", "-v"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "running in this process with 1 compute threads, without Ray" in done.stderr
    assert "5 images, 80 regions" in done.stderr
