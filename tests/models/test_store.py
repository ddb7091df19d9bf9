"""Checkpoints appear whole, on disks and in buckets, and no more of them than are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.models.store import CheckpointStore, locate


def write(text: str, folder: Path) -> None:
    """Write what a checkpoint has."""
    (folder / "vlray.json").write_text(text)
    (folder / "state.pt").write_text("state")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "file").write_text(text)


@pytest.fixture(params=["disk", "bucket"])
def output(request: pytest.FixtureRequest, tmp_path: Path, processes: None) -> str:
    if request.param == "disk":
        return str(tmp_path / "out")
    bucket: str = request.getfixturevalue("bucket")
    return bucket


def test_the_best_and_the_last_are_kept_and_found(output: str, tmp_path: Path) -> None:
    store = CheckpointStore(output, tmp_path / "cache")
    assert store.step_folder("last") == ""
    with pytest.raises(FileNotFoundError, match="has no best checkpoint; pass the OUT"):
        store.locate("best")
    for step, is_best in ((1, True), (2, True), (3, False), (4, False)):
        store.save(step, lambda folder, step=step: write(f"{step}", folder), is_best=is_best)
    again = CheckpointStore(output, tmp_path / "cache")
    assert again.step_folder("best") == "step-00000002"
    assert again.step_folder("last") == "step-00000004"
    assert again.read("last", "vlray.json") == b"4"
    best, last = again.locate("best"), locate(output, "last", tmp_path / "cache")
    assert (best / "deeper" / "file").read_text() == "2"
    names = ["checksums.json", "deeper", "state.pt", "vlray.json"]
    assert sorted(path.name for path in last.iterdir()) == names
    assert sorted(path.name for path in best.iterdir()) == names
    assert locate(f"{output}/best", cache=tmp_path / "cache").name == "step-00000002"
    assert locate(f"{output}/last", cache=tmp_path / "cache").name == "step-00000004"
    with pytest.raises(FileNotFoundError):
        again.read("last", "nothing")


def test_what_cannot_be_written_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "out"), tmp_path)
    store.save(1, lambda folder: write("1", folder), is_best=True)

    def fail(folder: Path) -> None:
        write("2", folder)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        store.save(2, fail, is_best=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["best", "last", "step-00000001"]
    assert (store.locate("last") / "vlray.json").read_text() == "1"


def test_what_killed_runs_leave_is_cleaned_up(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), tmp_path)
    store.save(1, lambda folder: write("1", folder), is_best=True)
    write("half", _made(tmp_path / ".tmp-abc"))
    write("not told of", _made(tmp_path / "step-00000002"))
    (tmp_path / ".tmp-best").symlink_to("step-00000002")
    (tmp_path / "of the user").write_text("stays")
    store.clean()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best", "last", "of the user", "step-00000001"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
