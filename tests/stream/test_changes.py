"""Images that are replaced, touched or removed between runs; a detector's part is played here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from vlray.config.extract import ExtractConfig
from vlray.images.find import list_images
from vlray.regions import parts
from vlray.regions.schema import FAILURES, PLAN
from vlray.settings.reader import from_cli
from vlray.storage import files, fingerprint
from vlray.stream import plan as plans
from vlray.stream.changes import ImagesChangedError
from vlray.stream.run import plan_images

FS = LocalFileSystem()
SHARD_SIZE = 3
BAD = b"bad"
REGIONS = pa.schema([("image_id", pa.string()), ("split", pa.string()), ("held", pa.binary())])


class Output:
    """An output of files of a few bytes; a row holds what the file held, where it is not bad."""

    def __init__(self, folder: Path) -> None:
        self.images, self.out = folder / "photos", folder / "out"
        self.images.mkdir()

    def put(self, name: str, content: bytes, time: int = 0) -> None:
        path = self.images / f"{name}.jpg"
        path.write_bytes(content)
        if time:
            os.utime(path, ns=(time, time))

    def config(self, *flags: str) -> ExtractConfig:
        argv = [str(self.images), str(self.out), "--shard-size", str(SHARD_SIZE), *flags]
        return from_cli(ExtractConfig, argv)

    def run(self, *flags: str) -> list[str]:
        """Do what a run does, and return the ids of the images that it read, in order."""
        config, root = self.config(*flags), str(self.out)
        plan, _ = plan_images(config, FS, root, list_images(str(self.images)))
        todo = plans.shards_to_do(FS, root, plan, retry_failures=False)
        return [name for shard in todo for name in self._detect(plan, int(shard))]

    def _detect(self, plan: plans.ShardPlan, shard: int) -> list[str]:
        images = plan.table.filter(pa.compute.equal(plan.table["shard"], shard)).to_pylist()
        regions, failures = [], []
        for image in images:
            data = (self.images / image["path"]).read_bytes()
            (failures if data == BAD else regions).append((image, data))
        name, root = parts.part_name(shard), str(self.out)
        if failures:
            rows = [dict.fromkeys(FAILURES.names, "decode") | _names(row) for row, _ in failures]
            table = pa.Table.from_pylist(rows, schema=FAILURES)
            table = parts.with_digests(table, [fingerprint.digest(data) for _, data in failures])
            path = files.join(root, parts.FAILURES, name)
            files.write_atomic(FS, path, parts.encode_plain(table))
        else:
            files.remove(FS, files.join(root, parts.FAILURES, name))
        schema = pa.schema(
            [("image_id", pa.string()), ("split", pa.string()), ("held", pa.binary())]
        )
        rows = [{"image_id": row["image_id"], "split": "all", "held": d} for row, d in regions]
        table = pa.Table.from_pylist(rows, schema=schema)
        table = parts.with_digests(table, [fingerprint.digest(data) for _, data in regions])
        path = files.join(root, parts.REGIONS, name)
        files.write_atomic(FS, path, parts.encode_regions(table, "zstd"))
        return [image["image_id"] for image in images]

    def rows(self) -> dict[str, bytes]:
        """Read the regions as any reader of Parquet does; no image may be there twice."""
        found = [row for part in self._tables("regions") for row in part.to_pylist()]
        held = {row["image_id"]: row["held"] for row in found}
        assert len(held) == len(found), "an image is there twice"
        return held

    def failed(self) -> list[str]:
        return sorted(n for part in self._tables("failures") for n in part["image_id"].to_pylist())

    def check(self) -> None:
        """Every image is in one of the tables once, with the content of its file."""
        there = {path.stem: path.read_bytes() for path in self.images.iterdir()}
        assert self.rows() == {name: data for name, data in there.items() if data != BAD}
        assert self.failed() == sorted(name for name, data in there.items() if data == BAD)

    def _tables(self, folder: str) -> list[pa.Table]:
        return [pq.read_table(path) for path in sorted((self.out / folder).glob("part-*"))]


def _names(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in ("image_id", "path", "split")}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    output = Output(tmp_path)
    for number in range(8):
        output.put(str(number), b"old%d" % number)
    output.put("4", BAD)
    output.run()
    output.check()
    return output


def test_what_has_not_changed_is_not_done_again(output: Output) -> None:
    before = {path: path.read_bytes() for path in output.out.rglob("*.parquet")}
    assert output.run() == []
    assert {path: path.read_bytes() for path in output.out.rglob("*.parquet")} == before


def test_replaced_images_are_done_again_and_no_others(output: Output) -> None:
    output.put("1", b"new1")  # of the same size
    output.put("6", b"another size")
    assert output.run() == ["1", "6"]
    output.check()
    assert output.run() == []


def test_a_failure_goes_when_the_file_is_good_and_comes_when_it_is_bad(output: Output) -> None:
    output.put("4", b"good")
    output.put("2", BAD)
    assert output.run() == ["2", "4"]
    output.check()
    assert output.failed() == ["2"]


def test_a_shard_of_which_nothing_is_left_leaves_no_file(output: Output) -> None:
    for name in "012345":
        output.put(name, b"changed")
    assert output.run() == list("012345")
    output.check()
    shards = {parts.shard_of(path.name) for path in (output.out / "regions").iterdir()}
    assert shards == {2, 3, 4}
    assert output.run() == []
    assert not list((output.out / "failures").iterdir())


def test_a_copy_with_other_times_is_what_it_was(
    output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    for path in output.images.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    output.put("3", b"new3", time=10**18)  # size and time are those of the copies
    with caplog.at_level("INFO"):
        assert output.run() == ["3"]
    assert "comparing the content of 8 images" in caplog.text
    output.check()
    caplog.clear()
    with caplog.at_level("INFO"):
        assert output.run() == []  # nor is it read again
    assert "comparing" not in caplog.text


def test_an_image_may_change_any_number_of_times(output: Output) -> None:
    for turn in range(4):
        output.put("0", b"turn %d" % turn)
        output.put(str(turn), b"turn %d" % turn)
        output.run()
        output.check()


def test_refuse_names_them_and_leaves_everything(output: Output) -> None:
    before = {path: path.read_bytes() for path in output.out.rglob("*.parquet")}
    output.put("1", b"new1")
    output.put("9", b"added")
    with pytest.raises(ImagesChangedError, match=r"1 image, such as 1\.jpg, changed after being"):
        output.run("--on-changed", "refuse")
    assert {path: path.read_bytes() for path in output.out.rglob("*.parquet")} == before


def test_vanished_images_are_named_and_their_rows_stay(
    output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "035":
        (output.images / f"{name}.jpg").unlink()
    assert output.run() == []
    assert "3 images from" in caplog.text
    assert "such as 0, 3, 5; the output keeps their rows" in caplog.text
    assert set("035") < output.rows().keys()


def test_images_of_other_splits_have_not_vanished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        (tmp_path / "photos" / split / f"{split}.jpg").write_bytes(b"x")
    out = tmp_path / "out"
    for split in ("train", "val", "train"):
        config = from_cli(ExtractConfig, [str(tmp_path / "photos"), str(out), "--split", split])
        listing = list_images(str(tmp_path / "photos"), split=(split,))
        plan, changes = plan_images(config, FS, str(out), listing)
        assert not len(changes.vanished)
    assert plan.table["split"].to_pylist() == ["train", "val"]
    assert "no longer found in" not in caplog.text


def forget_fingerprints(out: Path) -> None:
    """Make a plan and parts as vlray 0.1 wrote them."""
    for path in (out / "plan").iterdir():
        pq.write_table(pq.read_table(path).select(PLAN.names), path)
    for path in [*(out / "regions").iterdir(), *(out / "failures").iterdir()]:
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(None), path)


def test_an_output_without_fingerprints_is_adopted_with_a_notice(
    output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    forget_fingerprints(output.out)
    assert output.run() == []
    assert "lacks the file size and modification time for 8 images" in caplog.text
    caplog.clear()
    assert output.run() == []
    assert not caplog.text
    output.put("5", b"new5")
    os.utime(output.images / "6.jpg")  # without a digest, another time is another file
    assert output.run() == ["5", "6"]
    output.check()


def test_a_missing_file_of_a_list_is_done_when_it_appears(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.put("a", b"a")
    names = tmp_path / "names.txt"
    names.write_text("photos/a.jpg\nphotos/b.jpg\n")
    listing = list_images(str(names))
    assert listing.table["file_bytes"].to_pylist() == [1, -1]
    plan, _ = plan_images(output.config(), FS, str(output.out), listing)
    for shard in range(plan.shards):  # whatever it did with the missing one
        path = files.join(str(output.out), parts.REGIONS, parts.part_name(shard))
        files.write_atomic(FS, path, parts.encode_plain(pa.table({"image_id": ["a"]})))
    output.put("b", b"b")
    _, changes = plan_images(output.config(), FS, str(output.out), list_images(str(names)))
    assert changes.changed["image_id"].to_pylist() == ["b"]


class Crash(BaseException):
    """Where a process dies."""


def crash_at(
    step: int, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object], *, before: bool
) -> bool:
    """Run until the nth change of a file; returns whether there were as many."""
    left = step
    with monkeypatch.context() as patch:
        for name in ("write_atomic", "remove"):
            original = getattr(files, name)

            def changed(*args: object, original: Callable[..., object] = original) -> None:
                nonlocal left
                left -= 1
                if left < 0 and before:
                    raise Crash
                original(*args)
                if left < 0:
                    raise Crash

            patch.setattr(files, name, changed)
        try:
            run()
        except Crash:
            return True
    return False


@pytest.mark.parametrize("before", [True, False], ids=["before a step", "after a step"])
@pytest.mark.parametrize("more", [(), ("1", "7")], ids=["as it was", "with more changes"])
def test_a_death_at_any_step_loses_and_doubles_nothing(
    more: tuple[str, ...], before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads would make the order of steps another one each time.
    monkeypatch.setattr("vlray.stream.changes.WRITERS", 1)
    for step in range(1000):
        folder = tmp_path / str(step)
        folder.mkdir()
        output = Output(folder)
        for number in range(11):
            output.put(str(number), BAD if number in (4, 5) else b"old%d" % number)
        output.run()
        for name in "0129":
            output.put(name, b"changed")
        output.put("4", b"good now")
        output.put("8", BAD)
        output.put("added", b"added")
        has_crashed = crash_at(step, monkeypatch, output.run, before=before)
        output.rows()  # at no time twice
        for name in more:
            output.put(name, b"changed again")
        output.run()
        output.check()
        assert output.run() == []
        if not has_crashed:
            break
    assert step > 10
