"""Extraction from archives: the rows of the folder, whatever holds the photographs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.fixtures.decoding import decode
from vlray.config.cluster import ClusterSection
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection
from vlray.images.decode import MAX_PIXELS
from vlray.images.find import list_images
from vlray.storage import files, fingerprint
from vlray.stream.decode import DecodeShard
from vlray.stream.run import ExtractResult, extract


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).resize((120, 96)).save(data, "JPEG")
    return data.getvalue()


PICTURES = {f"{number}.jpg": picture(number) for number in range(5)}


def write_tar(path: Path, pictures: dict[str, bytes], order: int = 1) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in list(pictures.items())[::order]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_all(folder: Path) -> None:
    """Write the same pictures as a folder, a tar, a zip and a Parquet file."""
    (folder / "photos").mkdir()
    for name, data in PICTURES.items():
        (folder / "photos" / name).write_bytes(data)
    write_tar(folder / "photos.tar", PICTURES)
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in PICTURES.items():
            file.writestr(name, data)
    rows = [{"bytes": data, "path": name} for name, data in PICTURES.items()]
    pq.write_table(pa.table({"image": rows}), folder / "photos.parquet", row_group_size=2)


def run(images: Path, out: Path, **output: str | bool) -> ExtractResult:
    return extract(
        ExtractConfig(
            images=ImagesSection(root=str(images)),
            detector=DetectorSection(name="lite", min_size=64, max_size=128),
            output=OutputSection.model_validate({"path": str(out), "shard_size": 2, **output}),
            cluster=ClusterSection(address="none", progress="none"),
        )
    )


def rows(out: Path) -> pa.Table:
    return pq.read_table(out / "regions").sort_by("image_id").drop_columns(["path"])


def test_every_source_gives_the_rows_of_the_folder(tmp_path: Path) -> None:
    write_all(tmp_path)
    run(tmp_path / "photos", tmp_path / "out")
    expected = rows(tmp_path / "out")
    assert expected.num_rows == 5
    for name in ("photos.tar", "photos.zip", "photos.parquet"):
        out = tmp_path / f"out-{name}"
        run(tmp_path / name, out)
        assert rows(out).equals(expected)
    assert run(tmp_path / "photos.zip", tmp_path / "out-photos.zip").images == 0


def test_images_from_another_source_keep_their_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_all(tmp_path)
    out = tmp_path / "out"
    run(tmp_path / "photos.tar", out)
    before = {path.name: path.read_bytes() for path in (out / "regions").iterdir()}
    for again in range(2):
        caplog.clear()
        assert run(tmp_path / "photos.zip", out).images == 0
        named = "5 images are now found at another path, such as photos.zip!0.jpg, before photos."
        assert (named in caplog.text) == (not again)
    assert before == {path.name: path.read_bytes() for path in (out / "regions").iterdir()}
    # A part that is lost is made again from the images' new places.
    expected = rows(out)
    (out / "regions" / min(before)).unlink()
    assert run(tmp_path / "photos.zip", out).images == 2
    assert rows(out).equals(expected)


def test_an_output_is_a_folder_of_its_own(tmp_path: Path) -> None:
    write_all(tmp_path)
    with pytest.raises(ValueError, match=r"photos is the folder of the images; choose another"):
        run(tmp_path / "photos", tmp_path / "photos")
    for file in (tmp_path / "photos.tar", tmp_path / "photos.tar" / "out"):
        with pytest.raises(ValueError, match=r"is a file, or below a file; choose a folder"):
            run(tmp_path / "photos", file)


def test_an_archive_that_grew_costs_its_new_members_only(tmp_path: Path) -> None:
    archive, out = tmp_path / "photos.tar", tmp_path / "out"
    write_tar(archive, dict(list(PICTURES.items())[:3]))
    run(archive, out)
    before = {path.name: path.read_bytes() for path in (out / "regions").iterdir()}
    # The members move, because the archive is written again in another order.
    write_tar(archive, PICTURES, order=-1)
    result = run(archive, out)
    assert (result.images, result.changed) == (2, 0)
    assert before.items() <= {p.name: p.read_bytes() for p in (out / "regions").iterdir()}.items()
    # A part that is lost is made again from the new places.
    (out / "regions" / min(before)).unlink()
    run(archive, out)
    assert (out / "regions" / min(before)).read_bytes() == before[min(before)]


def test_a_changed_member_is_done_again(tmp_path: Path) -> None:
    archive, out = tmp_path / "photos.tar", tmp_path / "out"
    write_tar(archive, PICTURES)
    run(archive, out)
    write_tar(archive, PICTURES | {"3.jpg": picture(33)})
    result = run(archive, out, on_changed="redo")
    assert (result.images, result.changed) == (1, 1)
    run(archive, tmp_path / "again")
    assert rows(out).equals(rows(tmp_path / "again"))


def test_damaged_members_are_failures(tmp_path: Path) -> None:
    archive, out = tmp_path / "photos.tar", tmp_path / "out"
    write_tar(archive, PICTURES)
    os.truncate(
        archive, 5 * 512 + sum(len(data) + -len(data) % 512 for data in PICTURES.values()) - 600
    )
    result = run(archive, out)
    assert (result.images, result.failed, result.damaged) == (4, 1, ("photos.tar",))
    failed = pq.read_table(out / "failures").to_pylist()
    assert [row["image_id"] for row in failed] == ["4"]
    assert result.failure == "photos.tar!4.jpg: the archive is cut off in this member"
    again = run(archive, out)
    assert (again.failed, again.failed_before, again.failure) == (0, 1, result.failure)


def test_an_archive_that_is_cut_off_later_costs_no_row(tmp_path: Path) -> None:
    archive, out = tmp_path / "photos.tar", tmp_path / "out"
    write_tar(archive, PICTURES)
    run(archive, out)
    before = rows(out)
    size = archive.stat().st_size
    os.truncate(
        archive,
        4 * 512 + sum(len(data) + -len(data) % 512 for data in list(PICTURES.values())[:3]) + 100,
    )
    result = run(archive, out)
    assert (result.images, result.failed, result.damaged) == (0, 0, ("photos.tar",))
    assert rows(out).equals(before)
    assert archive.stat().st_size < size
    write_tar(archive, PICTURES)
    assert run(archive, out).images == 0
    assert rows(out).equals(before)


def test_a_member_costs_one_request_to_a_bucket(
    bucket: str, s3_server: str, tmp_path: Path
) -> None:
    fs, folder = files.resolve(bucket)
    noise = {f"{n}.jpg": os.urandom(300_000) for n in range(6)}
    write_tar(tmp_path / "x.tar", noise)
    files.write_atomic(fs, f"{folder}/x.tar", (tmp_path / "x.tar").read_bytes())
    program = Path(__file__).parents[1] / "failing_proxy.py"
    with subprocess.Popen(
        [sys.executable, str(program), s3_server], stdout=subprocess.PIPE, text=True
    ) as proxy:
        assert proxy.stdout is not None
        try:
            url = proxy.stdout.readline().strip()
            listing = list_images(f"{bucket}/x.tar?endpoint_override={url}")
            stage = DecodeShard(listing.table, listing.root, MAX_PIXELS, None)
            rows = decode(stage, 0, 3) + decode(stage, 3, 3)
        finally:
            proxy.kill()
        answers = [line.split() for line in proxy.stdout]
    # Noise is no image, but it has been read.
    read = [row["digest"] for row in rows]
    assert read == [fingerprint.digest(data) for data in noise.values()]
    members = [size for method, _, size in answers if (method, size) == ("GET", "300000")]
    assert len(members) == 6
    # The headers of all members, and little else.
    received = sum(int(size) for method, _, size in answers if method == "GET")
    assert received - 6 * 300_000 < 100_000
    # Its time is asked twice for the listing and once a shard; opening it asks for its size, once
    # for the listing and once for each thread that decodes: `decode` starts one.
    looks = [path for method, path, _ in answers if method == "HEAD"]
    assert len(looks) == 7
