"""The extract command with its images and its output in a bucket, on a local S3 server."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from vlray import extract
from vlray.regions.output import RegionOutput, open_output
from vlray.storage import files

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def bucket_of(
    ray_cluster: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Give what ``.format(folder)`` makes a URI of; workers know the server from the URI only."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.chdir(tmp_path)  # run folders go there
    return f"{bucket}/{{}}?endpoint_override={s3_server}"


def upload(folder: Path, uri: str) -> None:
    fs, root = files.resolve(uri)
    for path in folder.iterdir():
        files.write_atomic(fs, files.join(root, path.name), path.read_bytes())


def objects(uri: str) -> dict[str, bytes]:
    """Give the content of every object below a URI."""
    from pyarrow.fs import FileSelector

    fs, root = files.resolve(uri)
    found = fs.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
    return {
        info.path.removeprefix(f"{root}/"): files.read_bytes(fs, info.path)
        for info in found
        if info.is_file
    }


def run(images: str, out: str, detector: str) -> RegionOutput:
    extract.main([images, out, "--detector.name", detector, "--shard-size", "16", "--actors", "1"])
    return open_output(out)


def test_a_run_from_bucket_to_bucket_is_the_local_one_and_finishes_what_is_missing(
    bucket_of: str,
    many_photos: Path,
    grid_detector: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images, out = bucket_of.format("many photos"), bucket_of.format("out")
    upload(many_photos, images)
    output = run(images, out, grid_detector)
    local = run(str(many_photos), str(tmp_path / "out"), grid_detector)
    assert output.image_ids == local.image_ids
    assert output.obj_names == local.obj_names == ("dark", "bright")
    ids = output.image_ids[::7]
    assert output.read(ids).equals(local.read(ids))
    np.testing.assert_array_equal(output["crop 003"].visual_feats, local["crop 003"].visual_feats)
    assert output.failures().equals(local.failures())
    assert output.failures()["path"].to_pylist() == ["crop 007b.jpg", "crop 030b.jpg"]

    whole = objects(out)
    assert sorted(name for name in whole if name.startswith("regions/")) == [
        f"regions/part-{shard:05d}.parquet" for shard in range(4)
    ]
    fs, root = files.resolve(out)
    for name in ("regions/part-00002.parquet", "regions/part-00000.parquet"):
        files.remove(fs, f"{root}/{name}")
    with caplog.at_level(logging.INFO):
        run(images, out, grid_detector)
    assert "62 images (0 new, 0 changed), 32 to process in 2 shards" in caplog.text
    assert objects(out) == whole
    with caplog.at_level(logging.INFO):
        run(images, out, grid_detector)
    assert "nothing to do: all images (62)" in caplog.text


def test_photographs_on_disk_go_to_a_bucket_and_later_ones_after_them(
    bucket_of: str, photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("coffee.png", "chelsea.png"):
        (folder / name).write_bytes((photos / name).read_bytes())
    out = bucket_of.format("regions of photos")
    assert run(str(folder), out, grid_detector).image_ids == ["chelsea", "coffee"]
    before = objects(out)
    (folder / "astronaut.png").write_bytes((photos / "astronaut.png").read_bytes())
    assert run(str(folder), out, grid_detector).image_ids == ["chelsea", "coffee", "astronaut"]
    after = objects(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"plan/plan-00001.parquet", "regions/part-00001.parquet"}


def test_a_bucket_that_is_not_there_ends_the_run_before_any_work(
    bucket_of: str, photos: Path, grid_detector: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = bucket_of.partition("?")[2]
    with pytest.raises(SystemExit) as stop:
        run(str(photos), f"s3://no-such-bucket/out?{server}", grid_detector)
    assert stop.value.code == 2
    assert "s3://no-such-bucket" in caplog.text
    assert "the bucket does not exist" in caplog.text
