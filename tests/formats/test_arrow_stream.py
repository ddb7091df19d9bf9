"""Arrow streams of Hugging Face and vltk, whole and cut off, and the published one of vltk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats import written
from tests.formats.written import assert_resumes, assert_same, read_all, some_images
from vlray.formats.readers.arrow_stream import HfArrowReader, VltkArrowReader
from vlray.formats.readers.protocol import RawRegions, Unreadable

# What extracting_data.py does, with the library that it does it with; in a process of its own,
# because that library changes how pyarrow reads such columns everywhere.
_PRODUCER = """
import sys, datasets, datasets.arrow_writer, numpy as np
from pathlib import Path
from tests.formats.written import hf_columns, some_images
from vlray.formats.readers.arrow_stream import HfArrowReader

images = some_images(5)
one, ids = datasets.Value("float32"), datasets.Sequence(datasets.Value("float32"), length=36)
features = datasets.Features({
    "attr_ids": ids, "attr_probs": ids, "boxes": datasets.Array2D((36, 4), "float32"),
    "img_id": datasets.Value("int32"), "obj_ids": ids, "obj_probs": ids,
    "roi_features": datasets.Array2D((36, 12), "float32"),
    "sizes": datasets.Sequence(one, length=2), "preds_per_image": datasets.Value("int32"),
})
writer = datasets.arrow_writer.ArrowWriter(features=features, path=sys.argv[1])
for some in (images[:2], images[2:]):
    columns = {name: np.array(values) for name, values in hf_columns(some).items()}
    writer.write_batch(features.encode_batch(columns))
writer.finalize()
for _, found in HfArrowReader(Path(sys.argv[1])).read():
    sys.stdout.buffer.write(found.boxes.tobytes() + found.visual_feats.tobytes())
"""


def _fractions(image: written.Image) -> np.ndarray:
    return image.boxes / np.float32([image.width, image.height] * 2)


@pytest.mark.usefixtures("processes")
def test_hugging_faces_file_is_read_as_its_own_library_wrote_it(tmp_path: Path) -> None:
    source = tmp_path / "feats.datasets"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _PRODUCER, str(source)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    images = some_images(5)
    reader = HfArrowReader(source)
    assert HfArrowReader.recognizes(source)
    assert not VltkArrowReader.recognizes(source)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, boxes=_fractions(image))  # padding is gone
        assert got.image_hw == image.resized()
        assert got.remarks == ("normalized-boxes", "resized-size", "padded")
    assert_resumes(reader)
    there = b"".join(_fractions(i).tobytes() + i.features.tobytes() for i in images)
    assert done.stdout == there  # the same where Hugging Face's types are known to pyarrow


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_vltks_file_is_read_whatever_its_batches(batch_rows: int, tmp_path: Path) -> None:
    images = some_images(5)
    table = written.vltk_table(images)
    source = written.save_stream(tmp_path / "train.arrow", table, batch_rows)
    assert VltkArrowReader.recognizes(source)
    assert not HfArrowReader.recognizes(source)
    reader = VltkArrowReader(source)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels="oa")
        assert got.image_hw is None
        assert got.remarks == ("padded",)
    assert_resumes(reader)


def test_the_published_file_of_vltk_shows_its_damage(shared: Path) -> None:
    source = shared / "fixtures/vltk/train.arrow"
    got = read_all(VltkArrowReader(source))
    assert sorted(item.image_id for item in got) == [str(number) for number in range(1000, 1010)]
    skies = []
    for item in got:
        assert isinstance(item, RawRegions)
        assert item.boxes.shape == (36, 4)
        assert item.visual_feats.shape == (36, 2048)
        assert item.remarks == ()
        skies.append(int((item.obj_ids == 72).sum()))
    assert min(skies) == 32
    assert max(skies) == 36
    assert max(item.boxes.max() for item in got if isinstance(item, RawRegions)) > 1.49
    assert_resumes(VltkArrowReader(source))


@given(where=st.floats(0, 1, exclude_max=True))
def test_a_stream_that_was_cut_off_is_read_up_to_there(
    where: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    images = some_images(5)
    table = written.vltk_table(images, rows=6)
    source = written.save_stream(folder / "train.arrow", table, 2)
    size = int(where * source.stat().st_size)
    os.truncate(source, size)
    if size < table.schema.serialize().size:
        with pytest.raises(ValueError, match=r"train\.arrow is not an Arrow stream"):
            VltkArrowReader(source)
        return
    got = read_all(VltkArrowReader(source))
    assert [item.image_id for item in got] == [image.image_id for image in images]  # none is lost
    readable = [item for item in got if isinstance(item, RawRegions)]
    for item, image in zip(readable, images, strict=False):
        assert_same(item, image, labels="oa")
    assert all(isinstance(item, Unreadable) for item in got[len(readable) :])
    assert len(readable) in (0, 2, 4, 5)


def test_what_was_cut_off_without_a_list_of_rows_is_one_failure(tmp_path: Path) -> None:
    table = written.vltk_table(some_images(4)).replace_schema_metadata(None)
    source = written.save_stream(tmp_path / "train.arrow", table)
    source.write_bytes(source.read_bytes()[:-1000])
    *readable, last = read_all(VltkArrowReader(source))
    assert [type(item) for item in readable] == [RawRegions] * 3
    assert isinstance(last, Unreadable)
    assert last.image_id == "rows from 3 on"
    assert "truncated or damaged at byte" in last.reason


def test_rows_that_contradict_themselves_leave_the_others_readable(tmp_path: Path) -> None:
    images = some_images(5)
    table = written.vltk_table(images, rows=6)
    columns: dict[str, list[Any]] = table.to_pydict()
    columns["box"][0] = columns["box"][0][:5]
    columns["features"][1][2] = columns["features"][1][2][:-1]
    columns["object_ids"][2] = columns["object_ids"][2][:1]
    columns["box"][3] = None
    broken = pa.table(columns, schema=table.schema)
    got = read_all(VltkArrowReader(written.save_stream(tmp_path / "a.arrow", broken, 3)))
    assert [type(item) for item in got] == [Unreadable] * 4 + [RawRegions]
    reasons = [item.reason for item in got[:4] if isinstance(item, Unreadable)]
    assert reasons[0] == "features have shape (6, 12), but the image has 5 boxes"
    assert reasons[1] == "all rows in features must have the same length, but have 2 lengths"
    assert "obj_ids has 1 value for 4 boxes" in reasons[2]
    assert reasons[3] == "box is empty"


def test_lengths_that_point_outside_are_seen_before_they_are_followed(tmp_path: Path) -> None:
    images = some_images(2)
    source = written.save_stream(tmp_path / "a.arrow", written.vltk_table(images, rows=6), 1)
    data = source.read_bytes()
    lengths = np.arange(0, 6 * 12 + 1, 12, dtype=np.int32)  # of the rows of features
    broken = lengths.copy()
    broken[3] = 2**30
    source.write_bytes(data.replace(lengths.tobytes(), broken.tobytes(), 1))
    bad, good = read_all(VltkArrowReader(source))
    assert isinstance(bad, Unreadable)
    assert "the batch with this row is damaged" in bad.reason
    assert_same(good, images[1], labels="oa")


def test_what_is_no_such_stream_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = written.vltk_table(some_images(1))
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)  # the other form of Arrow's
    for content in (path.read_bytes(), b"", b"nothing at all", bytes(100)):
        path.write_bytes(content)
        assert not VltkArrowReader.recognizes(path)
        with pytest.raises(ValueError, match=r"a\.arrow is not an Arrow stream"):
            VltkArrowReader(path)
    written.save_stream(path, table.drop_columns(["box"]))
    with pytest.raises(
        ValueError, match="lacks the columns box; its columns are attr_ids, features"
    ):
        VltkArrowReader(path)
    assert not VltkArrowReader.recognizes(tmp_path)
