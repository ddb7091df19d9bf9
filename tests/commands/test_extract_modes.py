"""The extract command with given boxes, without features, and with a grid."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlray import extract, view
from vlray.regions.output import RegionOutput, open_output

pytestmark = pytest.mark.usefixtures("ray_cluster")

HEADER = "image_id,x1,y1,x2,y2\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # run folders go there


def run(images: Path, out: Path | str, detector: str, *flags: str) -> RegionOutput:
    extract.main([str(images), str(out), "--detector.name", detector, "--actors", "1", *flags])
    return open_output(str(out))


def files_of(out: Path) -> dict[str, bytes]:
    folders = (out / "regions", out / "failures")
    return {str(p.relative_to(out)): p.read_bytes() for f in folders for p in sorted(f.glob("*"))}


@pytest.fixture(scope="module")
def boxes() -> dict[str, np.ndarray]:
    """Boxes of 58 of the sixty crops, from one to five; every third crop is 160 x 120."""
    rng = np.random.default_rng(0)
    found = {}
    for index in range(2, 60):
        corners = rng.uniform(0, 110, (1 + index % 5, 2, 2)).astype(np.float32)
        corners.sort(axis=1)
        found[f"crop {index:03d}"] = corners.reshape(-1, 4) + np.float32([0, 0, 5, 5])
    return found


def write_csv(path: Path, boxes: dict[str, np.ndarray]) -> None:
    rows = [
        f"{name}," + ",".join(repr(float(value)) for value in box)
        for name, given in boxes.items()
        for box in given
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")


def test_given_boxes_come_out_to_the_last_bit_and_the_rest_is_accounted_for(
    many_photos: Path,
    boxes: dict[str, np.ndarray],
    grid_detector: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = {
        "crop 010": np.float32([[0, 0, 50, 50], [0, 0, 400, 50]]),
        "crop 011": np.float32([[9, 9, 9, 20]]),
        "crop 012": np.float32([[0, 0, np.nan, 20]]),
        "crop 030b": np.float32([[0, 0, 20, 20]]),  # half a file
        "elsewhere": np.float32([[0, 0, 20, 20]]),
    }
    write_csv(tmp_path / "boxes.csv", boxes | bad)
    with caplog.at_level(logging.INFO):
        flags = ["--boxes", "boxes.csv", "--shard-size", "32", "--max-boxes", "2"]
        output = run(many_photos, tmp_path / "out", grid_detector, *flags)
    assert sorted(output.image_ids) == sorted(boxes.keys() - bad.keys())
    for image_id in output.image_ids:
        regions = output[image_id]
        assert regions.boxes.tobytes() == boxes[image_id].tobytes()
        assert len(regions.visual_feats) == len(regions.obj_ids) == len(boxes[image_id])
    failures = {row["image_id"]: row for row in output.failures().to_pylist()}
    assert {name: row["stage"] for name, row in failures.items()} == {
        "crop 000": "boxes",
        "crop 001": "boxes",
        "crop 007b": "boxes",  # no image either, but without boxes it is not even read
        "crop 010": "boxes",
        "crop 011": "boxes",
        "crop 012": "boxes",
        "crop 030b": "decode",
    }
    assert failures["crop 000"]["reason"] == "the boxes file has no boxes for this image"
    assert "box 1 of 2 is [0.0, 0.0, 400.0, 50.0], outside its" in (failures["crop 010"]["reason"])
    assert "empty" in failures["crop 011"]["reason"]
    assert "not finite" in failures["crop 012"]["reason"]
    assert "boxes for 1 id without an image, such as elsewhere" in caplog.text
    assert "3 images without boxes will fail" in caplog.text
    assert "min_boxes=" not in caplog.text
    about = json.loads((tmp_path / "out" / "vlray.json").read_text())
    assert len(about["settings"]["boxes_sha256"]) == 64
    assert "detector.max_boxes" not in about["settings"]


def test_a_run_with_given_boxes_is_finished_by_the_same_boxes_in_any_form_and_by_no_others(
    many_photos: Path,
    boxes: dict[str, np.ndarray],
    grid_detector: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "out"
    write_csv(tmp_path / "boxes.csv", boxes)
    run(many_photos, out, grid_detector, "--boxes", "boxes.csv", "--shard-size", "32")
    whole = files_of(out)
    (out / "regions" / "part-00001.parquet").unlink()
    lists = {"image_id": [*boxes], "boxes": [given.tolist() for given in boxes.values()]}
    pq.write_table(pa.table(lists), tmp_path / "boxes.parquet")
    run(many_photos, out, grid_detector, "--boxes", "boxes.parquet", "--shard-size", "32")
    assert files_of(out) == whole
    write_csv(tmp_path / "others.csv", boxes | {"crop 002": boxes["crop 003"]})
    for other in (["--boxes", "others.csv"], []):
        with pytest.raises(SystemExit) as stop:
            run(many_photos, out, grid_detector, *other, "--shard-size", "32")
        assert stop.value.code == 2
    assert "boxes_sha256: '" in caplog.text
    assert "in the output, 'none' now" in caplog.text
    assert "max_boxes" not in caplog.text
    assert files_of(out) == whole


def test_the_boxes_of_an_output_can_be_given(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    found = run(photos, tmp_path / "one", grid_detector, "--max-boxes", "5", "--shard-size", "2")
    again = run(photos, tmp_path / "two", grid_detector, "--boxes", "one")
    assert again.image_ids == found.image_ids
    for image_id in found.image_ids:
        assert again[image_id].boxes.tobytes() == found[image_id].boxes.tobytes()
        mean = again[image_id].visual_feats[:, :3]
        np.testing.assert_allclose(mean, found[image_id].visual_feats[:, :3], atol=0.2)


def test_boxes_of_other_names_or_of_a_form_unknown_end_before_anything_is_written(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "names.csv").write_text(HEADER + "COCO_val_000001,1,2,3,4\n")
    (tmp_path / "words.txt").write_text("no boxes at all")
    (tmp_path / "own.py").write_text(WITHOUT)
    for detector, flags, message in (
        (grid_detector, ["--boxes", "names.csv"], "(COCO_val_000001, ...), but none matches"),
        (grid_detector, ["--boxes", "words.txt"], "has no supported box format"),
        ("own.py:Own", ["--boxes", "names.csv"], "own.py:Own has no method pool_boxes"),
        ("own.py:Own", ["--features", "grid"], "own.py:Own has no method grid"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(photos, tmp_path / "out", detector, *flags)
        assert stop.value.code == 2
        assert message in caplog.text
    assert not (tmp_path / "out" / "vlray.json").exists()


WITHOUT = """
from vlray.detect.protocol import DetectorInfo


class Own:
    def __init__(self, options):
        self.info = DetectorInfo("own", feature_dim=3)

    def __call__(self, images, image_hw):
        raise AssertionError("never called")
"""


def test_without_features_there_are_boxes_and_classes_only(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    flags = ["--max-boxes", "5", "--dtype", "float32"]
    whole = run(photos, tmp_path / "whole", grid_detector, *flags)
    bare = run(photos, tmp_path / "bare", grid_detector, *flags, "--features", "none")
    table, other = bare.read(bare.image_ids), whole.read(whole.image_ids)
    assert "visual_feats" not in table.column_names
    assert table.equals(other.drop_columns(["visual_feats"]))
    regions = bare["coffee"]
    assert regions.visual_feats.shape == (5, 0)
    assert regions.obj_ids.tolist() == whole["coffee"].obj_ids.tolist()
    about = json.loads(
        pq.read_schema(tmp_path / "bare/regions/part-00000.parquet").metadata[b"vlray"]
    )
    assert about["feature_dim"] == 0
    view.main([str(tmp_path / "bare"), "--min-score", "0"])
    assert (tmp_path / "bare" / "gallery" / "index.html").is_file()
    assert len(list((tmp_path / "bare" / "gallery" / "annotated").iterdir())) == 5


def test_a_grid_has_the_cells_of_the_image_row_by_row_and_no_classes(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ["--features", "grid", "--grid-size", "3"]
    with caplog.at_level(logging.INFO):
        output = run(photos, tmp_path / "out", grid_detector, *flags)
    regions = output["coffee"]  # 600 x 400
    assert regions.num_boxes.tolist() == [9]
    assert regions.visual_feats[:, 6:].tolist() == [[y, x] for y in range(3) for x in range(3)]
    assert regions.obj_ids is None
    assert output.obj_names == ()
    assert "min_boxes=" not in caplog.text
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out", grid_detector, "--features", "grid", "--grid-size", "4")
    assert "detector.grid_size: 3 in the output, 4 now" in caplog.text
    view.main([str(tmp_path / "out")])
    assert len(list((tmp_path / "out" / "gallery" / "annotated").iterdir())) == 5


def test_an_output_from_before_these_options_is_continued(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(photos, out, grid_detector)
    about = json.loads((out / "vlray.json").read_text())
    for name in ("features", "grid_layer", "grid_size", "precision", "post_nms_topk"):
        del about["settings"][f"detector.{name}"]
    (out / "vlray.json").write_text(json.dumps(about))
    with caplog.at_level(logging.INFO):
        run(photos, out, grid_detector)
    assert "nothing to do: all images (5)" in caplog.text
    with pytest.raises(SystemExit):
        run(photos, out, grid_detector, "--features", "none")
    assert "detector.features: 'pooled' in the output, 'none' now" in caplog.text
