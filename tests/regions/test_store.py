"""The store, on outputs that are written as the commands write theirs."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlray.regions import cache, open_output, parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import FeatureDtype, regions_schema, to_table
from vlray.regions.store import RegionStore, open_store
from vlray.storage import files

DIM = 16


def batch_of(num_boxes: list[int], seed: int, dim: int = DIM, *, heads: bool = True) -> RegionBatch:
    rng = np.random.default_rng(seed)
    regions = sum(num_boxes)
    return RegionBatch(
        image_hw=rng.integers(1, 2000, (len(num_boxes), 2)).astype(np.int32),
        num_boxes=np.array(num_boxes, np.int32),
        boxes=rng.random((regions, 4), np.float32) * 1000,
        visual_feats=rng.random((regions, dim), np.float32),
        obj_ids=rng.integers(0, 80, regions).astype(np.int32) if heads else None,
        obj_probs=rng.random(regions, np.float32) if heads else None,
    )


def write_output(
    out: str,
    shards: dict[int, list[int]],
    *,
    dim: int = DIM,
    dtype: FeatureDtype = "float16",
    heads: bool = True,
    seed: int = 0,
) -> None:
    """Write parts of images with so many regions; ids are ``shard-row``."""
    fs, root = files.resolve(out)
    about = {
        "dataset": "made",
        "images_root": "/photographs",
        "detector": {"name": "lite", "weights_sha256": "0" * 64},
        "settings": {"detector.max_boxes": 36},
        "vlray_version": "0.1.0",
        "schema_version": 1,
    }
    files.write_atomic(fs, files.join(root, parts.SETTINGS), json.dumps(about).encode())
    labels = json.dumps({"obj_names": ["cat", "dog"], "attr_names": []}).encode()
    files.write_atomic(fs, files.join(root, parts.LABELS), labels)
    schema = regions_schema(dim, dtype, about | {"detector_name": "lite", "feature_dim": dim})
    for shard, num_boxes in shards.items():
        batch = batch_of(num_boxes, 1000 * seed + shard, dim, heads=heads)
        names = [f"{shard}-{row}" for row in range(len(num_boxes))]
        table = to_table(batch, names, names, [""] * len(names), schema)
        path = files.join(root, parts.REGIONS, parts.part_name(shard))
        files.write_atomic(fs, path, parts.encode_regions(table, "zstd"))


def assert_same(store: RegionStore, out: str, width: int = 7) -> None:
    """Compare all of a store with what the output's own reader gives."""
    output = open_output(out)
    ids = list(reversed(output.image_ids))
    assert len(store) == len(ids)
    rows = store.rows(ids)
    feats = np.full((len(ids), width, store.feature_dim), np.nan, store.feature_dtype)
    boxes = np.full((len(ids), width, 4), np.nan, np.float32)
    store.read_feats(rows, feats)
    store.read_boxes(rows, boxes)
    labels = store.read_labels(rows, width)
    for place, image_id in enumerate(ids):
        regions = output[image_id]
        row, count = rows[place], min(width, len(regions.boxes))
        assert store.num_boxes[row] == len(regions.boxes)
        np.testing.assert_array_equal(store.image_hw[row], regions.image_hw[0])
        np.testing.assert_array_equal(feats[place, :count], regions.visual_feats[:count])
        np.testing.assert_array_equal(boxes[place, :count], regions.boxes[:count])
        assert not feats[place, count:].any()
        assert not boxes[place, count:].any()
        for name, values in labels.items():
            expected = getattr(regions, name)
            padding = -1 if name.endswith("_ids") else 0
            if expected is not None:
                np.testing.assert_array_equal(values[place, :count], expected[:count])
            np.testing.assert_array_equal(values[place, count:], padding)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_region_comes_back_by_its_image(tmp_path: Path, dtype: FeatureDtype) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 0, 10, 7], 1: [5], 4: [0, 0, 1]}, dtype=dtype)
    store = open_store(out, tmp_path / "cache")
    assert store.feature_dtype == dtype
    assert store.obj_names == ("cat", "dog")
    assert sorted(store.read_labels(store.rows(["1-0"]), 5)) == ["obj_ids", "obj_probs"]
    assert_same(store, out)
    assert_same(open_store(out, tmp_path / "cache"), out)


def test_boxes_without_vectors_and_without_labels_are_an_output_too(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 2]}, dim=0, heads=False)
    store = open_store(out, tmp_path / "cache")
    assert store.feature_dim == 0
    assert store.read_labels(store.rows(["0-0"]), 3) == {}
    assert_same(store, out)


def test_an_output_without_parts_has_no_images(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {})
    store = open_store(out, tmp_path / "cache")
    assert len(store) == 0
    assert store.rows(["1"]).tolist() == [-1]
    write_output(out, {0: [2, 3]})
    assert_same(open_store(out, tmp_path / "cache"), out)


def test_images_that_lack_what_others_have_get_no_label_of_theirs(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [2, 3]})
    write_output(out, {1: [4]}, heads=False)
    store = open_store(out, tmp_path / "cache")
    labels = store.read_labels(store.rows(["1-0"]), 4)
    assert (labels["obj_ids"] == -1).all()
    assert not labels["obj_probs"].any()
    assert_same(store, out)


def test_unknown_images_are_told_and_never_read(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [2, 3]})
    store = open_store(out, tmp_path / "cache")
    rows = store.rows(["0-1", "nobody", "0-0", "0-1"])
    assert rows.tolist() == [1, -1, 0, 1]
    with pytest.raises(ValueError, match=r"row -1 is out of range.*has 2 images"):
        store.read_boxes(rows, np.empty((4, 3, 4), np.float32))


def test_an_array_of_another_form_is_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [2, 3]})
    store = open_store(out, tmp_path / "cache")
    rows = store.rows(["0-0"])
    for wrong in (
        np.empty((1, 3, DIM), np.float32),
        np.empty((1, 3, DIM + 1), np.float16),
        np.empty((2, 3, DIM), np.float16),
        np.empty((1, 3, 2 * DIM), np.float16)[..., ::2],
    ):
        with pytest.raises(ValueError, match="C-contiguous array of float16"):
            store.read_feats(rows, wrong)


def test_single_vectors_are_those_of_their_regions(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 0, 10], 1: [5]})
    store = open_store(out, tmp_path / "cache")
    rows, regions = store.rows(["1-0", "0-2", "1-0"]), np.array([4, 9, 0])
    output = open_output(out)
    expected = [output["1-0"].visual_feats[4], output["0-2"].visual_feats[9]]
    found = store.read_feat_rows(rows, regions)
    np.testing.assert_array_equal(found[:2], expected)
    with pytest.raises(ValueError, match="region 3 of row 0 is out of range: the image has 3"):
        store.read_feat_rows(store.rows(["0-0"]), np.array([3]))


def test_new_parts_of_a_growing_output_are_appended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1], 2: [2]})
    before = open_store(out, tmp_path / "cache")
    write_output(out, {1: [4, 4], 3: [1]})
    os.utime(tmp_path / "out" / "regions" / parts.part_name(3))
    with caplog.at_level(logging.INFO, "vlray.regions"):
        after = open_store(out, tmp_path / "cache")
    assert "unpacking 3 images into" in caplog.text
    np.testing.assert_array_equal(after.rows(["0-0", "0-1", "2-0"]), [0, 1, 2])
    assert_same(after, out)
    assert len(before) == 3  # goes on as it was
    feats = np.empty((1, 2, DIM), np.float16)
    before.read_feats(before.rows(["2-0"]), feats)
    np.testing.assert_array_equal(feats[0], open_output(out)["2-0"].visual_feats)
    assert len(list((tmp_path / "cache" / "regions").glob("*/*.feats"))) == 1


def test_a_changed_output_is_unpacked_anew_and_the_old_files_go(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1], 1: [2]})
    before = open_store(out, tmp_path / "cache")
    feats = np.empty((1, 3, DIM), np.float16)
    before.read_feats(np.array([0]), feats)
    write_output(out, {0: [3, 1]}, seed=1)
    assert_same(open_store(out, tmp_path / "cache"), out)
    again = np.empty_like(feats)
    before.read_feats(np.array([0]), again)  # who has it open reads what was there
    np.testing.assert_array_equal(feats, again)
    assert len(list((tmp_path / "cache" / "regions").glob("*/*.feats"))) == 1
    with pytest.raises(
        RuntimeError, match="were replaced while a process that reads them was starting"
    ):
        pickle.loads(pickle.dumps(before))


def test_images_that_moved_to_another_part_are_where_they_are_now(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1], 1: [2]})
    open_store(out, tmp_path / "cache")
    part = tmp_path / "out" / "regions" / parts.part_name(0)
    table = pq.read_table(part)
    part.write_bytes(parts.encode_regions(table.slice(1, 1), "zstd"))
    write_output(out, {2: [4]}, seed=3)
    store = open_store(out, tmp_path / "cache")
    assert sorted(store.image_ids.to_pylist()) == ["0-1", "1-0", "2-0"]
    assert_same(store, out)


def test_opening_it_again_reads_no_part(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    open_store(out, tmp_path / "cache")
    part = tmp_path / "out" / "regions" / parts.part_name(0)
    status = part.stat()
    part.write_bytes(bytes(status.st_size))
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(open_store(out, tmp_path / "cache")) == 2


def test_it_pickles_as_its_place(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    store = open_store(out, tmp_path / "cache")
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert_same(pickle.loads(data), out)


def test_parts_of_two_forms_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3]})
    write_output(out, {1: [3]}, dtype="float32")
    with pytest.raises(ValueError, match=r"part-00001.parquet in .* cannot mix them"):
        open_store(out, tmp_path / "cache")
    assert [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()] == [".lock"]


def test_a_damaged_part_leaves_what_was_there(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    open_store(out, tmp_path / "cache")
    files_before = {f: f.read_bytes() for f in (tmp_path / "cache").rglob("*.*") if f.is_file()}
    write_output(out, {1: [2] * 8})
    part = tmp_path / "out" / "regions" / parts.part_name(1)
    data = bytearray(part.read_bytes())
    whole = bytes(data)
    column = pq.ParquetFile(part).metadata.row_group(0).column(7)
    assert "visual_feats" in column.path_in_schema
    start = column.data_page_offset
    data[start : start + column.total_compressed_size // 2] = bytes(
        column.total_compressed_size // 2
    )
    part.write_bytes(data)
    with pytest.raises(ValueError, match=r"part-00001\.parquet is damaged"):
        open_store(out, tmp_path / "cache")
    for file, content in files_before.items():
        assert file.read_bytes() == content
    part.write_bytes(whole)
    assert_same(open_store(out, tmp_path / "cache"), out)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, small_disk: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    with pytest.raises(
        OSError, match=r"needs 0.1 GB, but only 0.0 GB are free.*data.cache_dir"
    ) as seen:
        open_store(out, small_disk / "cache")
    assert seen.value.errno == errno.ENOSPC
    assert [file.name for file in small_disk.rglob("*") if file.is_file()] == [".lock"]


def test_a_cut_file_is_made_again(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    store = open_store(out, tmp_path / "cache")
    (feats,) = (tmp_path / "cache").rglob("*.feats")
    os.truncate(feats, 10)
    with pytest.raises(OSError, match=r"is truncated; delete the folder"):
        store.read_feats(np.array([0]), np.empty((1, 3, DIM), np.float16))
    assert_same(open_store(out, tmp_path / "cache"), out)


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3, 1]})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"set data\.cache_dir to a "):
        open_store(out, tmp_path / "file")


def test_no_output_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a vlray output"):
        open_store(str(tmp_path), tmp_path / "cache")


OPEN = """
import sys
from pathlib import Path
import numpy as np
from vlray.regions.store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
feats = np.zeros((len(store), 36, store.feature_dim), store.feature_dtype)
store.read_feats(np.arange(len(store)), feats)
print(len(store), float(feats.astype(np.float64).sum()))
"""


def opener(out: str, cache_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN, out, str(cache_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("processes")
def test_of_two_processes_one_unpacks_and_the_other_waits(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {shard: [36] * 32 for shard in range(20)}, dim=64)
    processes = [opener(out, tmp_path / "cache") for _ in range(3)]
    said = {process.communicate()[0] for process in processes}
    assert len(said) == 1
    assert said.pop().startswith("640 ")
    assert len(list((tmp_path / "cache").rglob("*.feats"))) == 1


def size_of(file: Path) -> int:
    """Give a file's size; 0 where the process has just removed what an earlier one left."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.usefixtures("processes")
def test_a_killed_process_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {shard: [36] * 32 for shard in range(20)}, dim=256)
    cut = 0
    for attempt in range(4):
        process = opener(out, tmp_path / "cache")
        while process.poll() is None:
            if any(size_of(f) > attempt << 20 for f in (tmp_path / "cache").rglob("*.feats")):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.communicate()
        cut += process.returncode == -signal.SIGKILL
    assert cut
    assert_same(open_store(out, tmp_path / "cache"), out, width=36)
    kinds = sorted(file.suffix for file in (tmp_path / "cache").rglob("*.*") if file.is_file())
    assert kinds == ["", ".arrow", ".boxes", ".feats", ".json", ".labels"]


def test_threads_read_at_once(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {shard: [3] * 32 for shard in range(4)})
    store = open_store(out, tmp_path / "cache")
    expected = np.empty((len(store), 3, DIM), np.float16)
    store.read_feats(np.arange(len(store)), expected)

    def read(seed: int) -> bool:
        rows = np.random.default_rng(seed).permutation(len(store))
        feats = np.empty_like(expected)
        store.read_feats(rows, feats)
        return bool((feats == expected[rows]).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(64)))


def test_an_output_in_object_storage_is_unpacked_here(bucket: str, tmp_path: Path) -> None:
    write_output(bucket, {0: [3, 0, 10], 1: [5]})
    assert_same(open_store(bucket, tmp_path / "cache"), bucket)
    write_output(bucket, {2: [1, 2]})
    store = open_store(bucket, tmp_path / "cache")
    assert_same(store, bucket)
    assert store.rows(["2-1"]).tolist() == [5]


def test_the_way_in_which_a_place_is_written_does_not_matter(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_output(str(out), {0: [3]})
    (tmp_path / "link").symlink_to(out)
    for uri in (str(out), f"file://{out}", f"{tmp_path}/./out/", str(tmp_path / "link")):
        open_store(uri, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "regions").iterdir())) == 1


def test_an_index_of_another_version_is_not_read(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3]})
    open_store(out, tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob(cache.INDEX)
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 0}))
    assert cache.load_index(index.parent) is None
    assert_same(open_store(out, tmp_path / "cache"), out)


def test_the_images_table_is_mapped_not_read(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_output(out, {0: [3] * 1000})
    open_store(out, tmp_path / "cache")
    before = pa.total_allocated_bytes()
    store = open_store(out, tmp_path / "cache")
    assert len(store.num_boxes) == len(store.image_hw) == 1000
    assert pa.total_allocated_bytes() - before < 2000
