"""The stages one by one, most of them without Ray, and what surrounds them."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from tests.deadlines import wait_until
from tests.fixtures.decoding import decode
from vlray.cluster.journal import Journal
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.detect.load import resize_of
from vlray.images.find import list_images
from vlray.regions import parts
from vlray.regions.claim import claim
from vlray.regions.lock import only_writer
from vlray.regions.schema import FAILURES, from_table
from vlray.stream import progress
from vlray.stream.decode import DecodeShard, size_of
from vlray.stream.detect import DetectOptions, DetectShard
from vlray.stream.identity import identity_of
from vlray.stream.progress import ExtractProgress
from vlray.stream.rows import DecodedShard, DetectedShard, ImageRow, ShardTask
from vlray.stream.shard import ExtractShard, ShardWork
from vlray.stream.stages import Stages
from vlray.stream.turns import Prefetch, Turns
from vlray.stream.write import WriteShard

FS = LocalFileSystem()
SIZES = ((120, 160), (160, 120), (140, 140))


def table_of(rows: list[tuple[str, bytes, float | None]]) -> pa.Table:
    schema = pa.schema([("a", pa.string()), ("b", pa.large_binary()), ("c", pa.float64())])
    return pa.Table.from_pylist([dict(zip("abc", row, strict=True)) for row in rows], schema)


def test_shards_are_never_mixed() -> None:
    row = pa.table({"shard": [4], "start": [7], "count": [2]})
    assert ShardTask.of(row) == ShardTask(4, 7, 2, 0)
    with pytest.raises(AssertionError, match="2 shards at once"):
        ShardTask.of(pa.concat_tables([row, row]))


def decoded(images: list[np.ndarray | None], shard: int = 3) -> DecodedShard:
    """Return what the first stage makes of images; None: a file that is not an image."""
    rows: list[dict[str, Any]] = []
    for index, image in enumerate(images):
        row: dict[str, Any] = {"image_id": f"{index}", "path": f"{index}.png", "split": "all"}
        row |= {"boxes": None, "image": None}
        if image is None:
            row |= {"stage": "decode", "error": "ImageError", "reason": "no image at all"}
        else:
            row |= {"image_height": image.shape[0], "image_width": image.shape[1]}
            row |= {"image": image.copy()}
        rows.append(row)
    return DecodedShard(ShardTask(shard, 0, len(rows), 0), rows)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Nine photographs of three sizes, mixed, the later ones brighter."""
    import skimage
    from PIL import Image

    data = Path(skimage.__file__).parent / "data"
    whole = np.asarray(Image.open(data / "coffee.png").convert("RGB"))[..., ::-1]
    crops = []
    for index in range(9):
        height, width = SIZES[index % 3]
        crop = whole[10 * index :, 20 * index :][:height, :width].astype(np.int32)
        crops.append(np.clip(crop + 12 * index, 0, 255).astype(np.uint8))
    return crops


def stage(out: Path, name: str, **options: Any) -> DetectShard:
    section = DetectorSection(name=name, **options)
    detect = DetectShard(
        DetectOptions(section, "float32", str(out), {"schema_version": 1}, 1), Journal()
    )
    detect.load()
    return detect


def run(detect: DetectShard, shard: DecodedShard) -> DetectedShard:
    done: list[str] = []
    detected = detect(shard, lambda rows: done.extend(row["image_id"] for row in rows))
    good = [row["image_id"] for row in shard.rows if row["image"] is not None]
    assert sorted(done) == good  # each image is released once
    return detected


def detect(
    out: Path, name: str, images: list[np.ndarray | None], **options: Any
) -> tuple[pa.Table, pa.Table]:
    detected = run(stage(out, name, **options), decoded(images))
    return detected.regions, detected.failures


def test_a_batch_changes_no_feature(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path
) -> None:
    one, _ = detect(tmp_path, grid_detector, [*images], batch_size=1)
    eight, _ = detect(tmp_path, grid_detector, [*images], batch_size=8)
    assert one["image_id"].to_pylist() == [f"{index}" for index in range(9)]
    assert one.equals(eight, check_metadata=True)


def test_a_batch_changes_no_feature_of_lite_but_for_the_last_digits(
    images: list[np.ndarray], tmp_path: Path
) -> None:
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    shard = stage(tmp_path, "lite", batch_size=8, max_boxes=8, min_boxes=8)
    resize = resize_of(DetectorSection(min_size=64, max_size=96))
    assert resize is not None
    small = [np.ascontiguousarray(resize(image)) for image in images[:5]]
    eight = from_table(run(shard, decoded([*small])).regions)
    assert shard._detector is not None
    shard._detector.batch_size = 1
    one = from_table(run(shard, decoded([*small])).regions)
    np.testing.assert_array_equal(one.num_boxes, eight.num_boxes)
    np.testing.assert_allclose(one.boxes, eight.boxes, atol=1e-2)
    np.testing.assert_allclose(one.visual_feats, eight.visual_feats, rtol=1e-3, atol=1e-4)


def test_only_images_of_one_size_share_a_batch(
    images: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = f"{Path(__file__).parent / 'moody_detector.py'}:SizesDetector"
    with caplog.at_level(logging.WARNING):
        regions, failures = detect(tmp_path, sizes, [*images], batch_size=2)
    assert regions.num_rows == 9
    assert failures.num_rows == 0
    assert "raised" not in caplog.text


def test_an_error_that_passes_leaves_no_trace(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = f"{Path(__file__).parent / 'moody_detector.py'}:OnceDetector"
    with caplog.at_level(logging.WARNING):
        raised, failures = detect(tmp_path, once, [*images], batch_size=8)
    calm, _ = detect(tmp_path, grid_detector, [*images], batch_size=8)
    assert "the detector raised an exception on 3 images: MemoryError('for once')" in caplog.text
    assert failures.num_rows == 0
    assert raised.select(calm.column_names).equals(calm)


def test_an_image_on_which_the_detector_raises_costs_only_itself(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path
) -> None:
    means = sorted(image.mean() for image in images)
    poison = {"poison": float(means[-2] + means[-1]) / 2}
    mixed = [*images[:4], None, *images[4:]]
    regions, failures = detect(tmp_path, grid_detector, mixed, batch_size=8, options=poison)
    whole, bad = detect(tmp_path, grid_detector, mixed, batch_size=8)
    brightest = [image is not None and image.mean() == means[-1] for image in mixed].index(True)
    assert [(row["image_id"], row["stage"]) for row in failures.to_pylist()] == [
        ("4", "decode"),
        (f"{brightest}", "detect"),
    ]
    assert failures["error"].to_pylist() == ["ImageError", "RuntimeError"]
    assert "too bright for me" in failures["reason"][1].as_py()
    assert bad["image_id"].to_pylist() == ["4"]
    kept = pa.array(regions["image_id"].to_pylist())
    expected = whole.filter(pa.compute.is_in(whole["image_id"], value_set=kept))
    assert regions.num_rows == whole.num_rows - 1
    assert regions.equals(expected)


def test_a_detector_that_raises_on_a_whole_shard_is_taken_for_broken(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path
) -> None:
    options = {"always": True}
    problem = run(stage(tmp_path, grid_detector, options=options), decoded([*images])).problem
    assert "an exception on all 9 images of shard 3" in problem
    assert problem.endswith("RuntimeError: this detector always raises")
    regions, failures = detect(tmp_path, grid_detector, [*images[:3]], options=options)
    assert (regions.num_rows, failures.num_rows) == (0, 3)  # too few to blame it


def test_the_labels_lie_beside_the_regions(grid_detector: str, tmp_path: Path) -> None:
    stage(tmp_path, grid_detector)
    labels = json.loads((tmp_path / parts.LABELS).read_text())
    assert labels == {"obj_names": ["dark", "bright"], "attr_names": []}


def test_files_become_arrays_or_reasons(many_photos: Path) -> None:
    listing = list_images(str(many_photos))
    images = listing.table.select(["image_id", "path", "split"])
    gone = pa.table([["gone"], ["gone.jpg"], [images["split"][0].as_py()]], schema=images.schema)
    plan = pa.concat_tables([images, gone]).combine_chunks()
    start = images.num_rows - 56
    rows = decode(DecodeShard(plan, listing.root, 10**6, None, threads=3), start, 57)
    assert [row["path"] for row in rows] == plan["path"][start:].to_pylist()  # in their order
    bad = {row["path"]: (row["error"], row["reason"]) for row in rows if row["image"] is None}
    assert bad.keys() == {"crop 007b.jpg", "crop 030b.jpg", "gone.jpg"}
    assert bad["gone.jpg"][0] == "FileNotFoundError"
    assert "gone.jpg" in bad["gone.jpg"][1]
    good = [row["image"] for row in rows if row["image"] is not None]
    assert {image.shape for image in good} == {(*size, 3) for size in SIZES}
    assert all(image.flags.writeable for image in good)
    resize = resize_of(DetectorSection(min_size=60, max_size=100))
    for row in decode(DecodeShard(plan, listing.root, 10**6, resize), start, 57):
        if row["image"] is not None:
            assert min(row["image"].shape[:2]) == 60
            assert row["image"].flags.writeable  # detectors may modify it
            assert (row["image_height"], row["image_width"]) in SIZES
    rows = decode(DecodeShard(plan, listing.root, 1000, None), 0, 2)
    assert [row["error"] for row in rows] == ["ImageError"] * 2


def test_only_so_many_bytes_are_decoded_ahead(many_photos: Path) -> None:
    listing = list_images(str(many_photos))
    stage = DecodeShard(listing.table, listing.root, 10**6, None, threads=2)
    decoder = stage.decoder(Journal(), separate=False, limited=False)
    prefetch = Prefetch(limit=100_000)
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as other:

        def begin(start: int) -> list[ImageRow]:
            return stage(ShardTask(0, start, 8, 0), decoder, pool, prefetch, Journal())

        held = sum(map(size_of, begin(0)))
        assert prefetch.held == held > 300_000  # a shard alone is decoded in any case
        following = other.submit(begin, 8)
        time.sleep(0.1)
        assert prefetch.held == held  # waits for the shard before it
        prefetch.release(held - 50_000)  # all but the last of its images are detected
        wait_until(lambda: prefetch.held >= 100_000, 60)
        time.sleep(0.1)
        assert not following.done()
        assert prefetch.held < 100_000 + 2 * 140 * 160 * 3
        prefetch.release(50_000)
        assert prefetch.held <= sum(map(size_of, following.result())) == prefetch.held
        waiting = other.submit(begin, 16)
        prefetch.close()
        with pytest.raises(CancelledError):
            waiting.result()


def test_an_isolated_shard_has_the_process_to_itself() -> None:
    turns, running, seen = Turns(), [0], []
    lock = threading.Lock()

    def work(alone: bool) -> None:
        with turns.take(alone=alone):
            with lock:
                running[0] += 1
            time.sleep(0.002)
            with lock:
                seen.append((alone, running[0]))
            time.sleep(0.002)
            with lock:
                running[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [False, False, True, True, False, False, True, False] * 3))
    assert [count for alone, count in seen if alone] == [1] * 9
    assert len(seen) == 24


def test_an_actor_overlaps_shards_and_returns_only_counts(
    many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    listing = list_images(str(many_photos))
    images = listing.table.select(["image_id", "path", "split", "place"])
    tables = [
        pa.table({"shard": [n], "start": [7 * n], "count": [min(7, images.num_rows - 7 * n)]})
        for n in range(-(-images.num_rows // 7))
    ]

    def stages_to(out: Path) -> Stages:
        section = DetectorSection(name=grid_detector, options={"seconds": 0.001})
        return Stages(
            DecodeShard(images, listing.root, 10**6, resize_of(section), threads=2),
            DetectOptions(section, "float16", str(out), {"schema_version": 1}, 1),
            WriteShard(str(out), "zstd", min_boxes=1),
        )

    with contextlib.closing(ShardWork(stages_to(tmp_path / "one by one"))) as work:
        work.load()
        one_by_one = [work.write(work.detect(work.decode(work.begin(table)))) for table in tables]
        assert work._prefetch.held == 0
    actor = ExtractShard(stages_to(tmp_path / "at once"), "an actor")
    with ThreadPoolExecutor(3) as pool:
        rows = list(pool.map(actor, tables))
    assert [row.to_pylist()[0] for row in rows] == one_by_one
    assert sum(row.nbytes for row in rows) < 10 * images.num_rows
    assert contents(tmp_path / "at once") == contents(tmp_path / "one by one")
    assert actor._work._prefetch.held == 0


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_a_shard_written_twice_is_the_same_file(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path
) -> None:
    detected = run(stage(tmp_path, grid_detector), decoded([*images[:4], None]))
    write = WriteShard(str(tmp_path), "zstd", min_boxes=20)
    first = write(detected)
    before = contents(tmp_path)
    assert before.keys() == {
        "failures/part-00003.parquet",
        "labels.json",
        "regions/part-00003.parquet",
    }
    assert write(detected) == first
    assert contents(tmp_path) == before
    counts = dict(first)
    assert counts["bytes"] == len(before["regions/part-00003.parquet"])
    assert (counts.pop("problem"), counts.pop("trace")) == ("", "")
    del counts["bytes"]
    assert counts == {
        "shard": 3,
        "images": 4,
        "regions": 64,
        "failed": 1,
        "raised": 0,
        "short": 4,
    }


def test_a_shard_without_any_good_image_is_done_and_tells_why(
    grid_detector: str, tmp_path: Path
) -> None:
    detected = run(stage(tmp_path, grid_detector), decoded([None, None]))
    counts = WriteShard(str(tmp_path), "none", min_boxes=1)(detected)
    assert (counts["images"], counts["regions"], counts["failed"]) == (0, 0, 2)
    regions = pq.read_table(tmp_path / "regions" / "part-00003.parquet")
    assert regions.num_rows == 0
    assert "visual_feats" in regions.column_names
    failures = pq.read_table(tmp_path / "failures" / "part-00003.parquet")
    assert failures.schema.equals(FAILURES)
    assert failures["reason"].to_pylist() == ["no image at all"] * 2


def test_a_shard_that_came_out_well_has_no_failures_left(
    images: list[np.ndarray], grid_detector: str, tmp_path: Path
) -> None:
    write = WriteShard(str(tmp_path), "zstd", min_boxes=1)
    detector = stage(tmp_path, grid_detector)
    write(run(detector, decoded([images[0], None])))
    write(run(detector, decoded([images[0], images[1]])))
    assert contents(tmp_path).keys() == {"labels.json", "regions/part-00003.parquet"}


def test_progress_is_told_in_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO), ExtractProgress(4000, "lines") as told:
        for seconds, done, failed in ((30, 1000, 0), (5, 500, 1), (5, 500, 1), (9, 2000, 0)):
            clock[0] += seconds
            told.add(done, failed)
    assert caplog.messages == [
        "1,000/4,000 images, 0 failed",
        "2,000/4,000 images, 2 failed, 100.00 images/s, 0:00:20 left",
        "4,000/4,000 images, 2 failed",
    ]


def test_progress_moves_inside_shards(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "POLL_S", 0.001)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    inside = [0]
    with caplog.at_level(logging.INFO), ExtractProgress(10, "lines") as told:
        told.add(2, 0)  # of an earlier pipeline, whose nodes were lost
        with told.inside(lambda: inside[0]):
            for inside[0] in (3, 2, 8):  # 2: a shard is repeated; 8: all, but not yet written
                time.sleep(0.05)
            told.add(8, 1)
            time.sleep(0.05)
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "2/10 images",
        "5/10 images",
        "10/10 images",
    ]


@pytest.mark.parametrize("style", ["none", "bar", "auto"])
def test_progress_is_told_once_and_in_one_way(
    style: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), ExtractProgress(10, style) as told:
        told.add(10, 1)
    drawn = capsys.readouterr().err
    assert bool(caplog.messages) == (style == "auto")  # no terminal here
    assert ("10/10" in drawn and "1 failed" in drawn) == (style == "bar")
    assert bool(drawn) == (style == "bar")


@pytest.mark.usefixtures("processes")
def test_a_second_writer_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    program = (
        "import sys; from pyarrow.fs import LocalFileSystem; from vlray.regions.lock import *\n"
        "with only_writer(LocalFileSystem(), sys.argv[1], 'out'): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with (
            pytest.raises(ValueError, match="another vlray process is writing to my/out; wait"),
            only_writer(FS, str(tmp_path), "my/out"),
        ):
            pass
        other.kill()
    with only_writer(FS, str(tmp_path), "my/out"):
        pass


def config_of(images: Path, out: Path, **detector: Any) -> ExtractConfig:
    return ExtractConfig(images={"root": str(images)}, output={"path": str(out)}, detector=detector)


def test_what_differs_from_the_output_is_named(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    listing = list_images(str(photos))
    first = identity_of(config_of(photos, tmp_path, name=grid_detector), listing)
    for _ in range(2):
        claim(FS, str(tmp_path), "my/out", first)
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions" / "part-00000.parquet").write_bytes(b"of the first run")
    before = contents(tmp_path)
    device = identity_of(config_of(photos, tmp_path, name=grid_detector, device="cpu"), listing)
    claim(FS, str(tmp_path), "my/out", device)  # where it runs is all the same
    other = config_of(
        photos, tmp_path, name=f"{Path(__file__).parent}/moody_detector.py:OnceDetector"
    )
    other = other.model_copy(
        update={"output": other.output.model_copy(update={"dtype": "float32"})}
    )
    with pytest.raises(ValueError, match="my/out was made with different settings") as refused:
        claim(FS, str(tmp_path), "my/out", identity_of(other, listing))
    said = str(refused.value)
    assert "\n  output.dtype: 'float16' in the output, 'float32' now\n" in said
    assert "\n  detector: " in said
    assert "another folder" in said
    assert "device" not in said
    assert contents(tmp_path) == before


def test_an_output_that_was_never_begun_takes_other_settings(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    listing = list_images(str(photos))
    mistaken = identity_of(config_of(photos, tmp_path, name=grid_detector, max_boxes=5), listing)
    claim(FS, str(tmp_path), "my/out", mistaken)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan-00000.parquet").write_bytes(b"of the mistaken run")
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "part-00003.parquet").write_bytes(b"of the mistaken run")
    meant = identity_of(config_of(photos, tmp_path, name=grid_detector), listing)
    claim(FS, str(tmp_path), "my/out", meant)
    assert not list((tmp_path / "plan").iterdir())
    assert not list((tmp_path / "failures").iterdir())
    assert json.loads((tmp_path / "vlray.json").read_text()) == json.loads(json.dumps(meant))


def test_a_folder_of_somebody_elses_regions_is_left_alone(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions" / "europe.txt").write_text("")
    identity = identity_of(
        config_of(photos, tmp_path, name=grid_detector), list_images(str(photos))
    )
    with pytest.raises(ValueError, match=r"my/out has a folder regions/ but no vlray\.json"):
        claim(FS, str(tmp_path), "my/out", identity)
    assert contents(tmp_path).keys() == {"regions/europe.txt"}
