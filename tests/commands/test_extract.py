"""The extract command from its arguments to the files, on photographs and a Ray cluster."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from vlray import extract
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.schema import from_table
from vlray.settings.state import remove, store

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # run folders go there


def run(images: Path | str, out: Path | str, detector: str, *flags: str) -> RegionOutput:
    extract.main([str(images), str(out), "--detector.name", detector, *flags])
    return open_output(str(out))


def files_of(out: Path) -> dict[str, bytes]:
    """Give the content of everything that the tables consist of."""
    folders = (out / "regions", out / "failures")
    return {str(p.relative_to(out)): p.read_bytes() for f in folders for p in sorted(f.glob("*"))}


@pytest.fixture(scope="module")
def grid_output(
    ray_cluster: str,
    many_photos: Path,
    grid_detector: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A complete output of sixty crops, in shards of 16."""
    folder = tmp_path_factory.mktemp("grid")
    out = folder / "out"
    flags = ["--shard-size", "16", "--min-boxes", "16", "--env.runs-dir", str(folder / "runs")]
    run(many_photos, out, grid_detector, *flags)
    return out


def test_every_listed_image_is_in_exactly_one_of_the_tables(
    grid_output: Path, many_photos: Path
) -> None:
    output = open_output(str(grid_output))
    failures = output.failures()
    there = sorted([*output.image_ids, *failures["image_id"].to_pylist()])
    assert there == sorted(path.stem for path in many_photos.iterdir())
    assert sorted(failures["path"].to_pylist()) == ["crop 007b.jpg", "crop 030b.jpg"]
    assert set(failures["stage"].to_pylist()) == {"decode"}
    assert all(failures["reason"].to_pylist())


def test_regions_are_in_pixels_of_the_original_image(grid_output: Path, many_photos: Path) -> None:
    from PIL import Image

    output = open_output(str(grid_output))
    for image_id in output.image_ids[:6]:
        regions = output[image_id]
        with Image.open(many_photos / f"{image_id}.jpg") as image:
            assert regions.image_hw.tolist() == [[image.height, image.width]]
        assert regions.num_boxes.tolist() == [16]
        np.testing.assert_allclose(regions.boxes.max(0)[2:], regions.image_hw[0][::-1], atol=1e-3)


def test_rows_can_be_read_in_the_order_asked_for(grid_output: Path) -> None:
    output = open_output(str(grid_output))
    ids = [output.image_ids[i] for i in (59, 3, 17, 3)]
    table = output.read(ids)
    assert table["image_id"].to_pylist() == ids
    np.testing.assert_array_equal(
        from_table(table.slice(1, 1)).boxes, from_table(table.slice(3, 1)).boxes
    )
    with pytest.raises(KeyError, match="crop 999"):
        output.read(["crop 999"])
    assert len(output) == sum(batch.num_rows for batch in output.iter_batches(["image_id"], 7))
    assert "crop 000" in output
    assert "crop 007b" not in output


def test_duckdb_polars_pandas_and_datasets_read_it_without_vlray(
    grid_output: Path, tmp_path: Path
) -> None:
    import datasets

    pattern = f"{grid_output}/regions/*.parquet"
    query = f"select sum(len(boxes)), count(*) from '{pattern}' where num_boxes = 16"
    assert duckdb.sql(query).fetchall() == [(960, 60)]
    frame = pl.read_parquet(pattern)
    assert frame["visual_feats"].explode().to_numpy().shape[0] == 960
    pandas = pq.read_table(grid_output / "regions").to_pandas()
    assert len(pandas["visual_feats"].iloc[0][0]) == 8
    dataset = datasets.Dataset.from_parquet(pattern, cache_dir=str(tmp_path / "cache"))
    features = np.array(dataset[0]["visual_feats"], np.float32)
    expected = open_output(str(grid_output))[dataset[0]["image_id"]].visual_feats
    np.testing.assert_array_equal(features, expected.astype(np.float32))


def test_the_files_say_what_made_them(grid_output: Path) -> None:
    parts = sorted((grid_output / "regions").iterdir())
    about = json.loads(pq.read_schema(parts[0]).metadata[b"vlray"])
    assert about["dataset"] == open_output(str(grid_output)).info.dataset
    assert about["detector_name"] == "grid"
    assert about["feature_dim"] == 8
    assert about["settings"]["detector.min_boxes"] == 16
    assert len(about["labels_sha256"]) == 64
    assert open_output(str(grid_output)).obj_names == ("dark", "bright")


def test_the_same_command_again_does_nothing(
    grid_output: Path,
    many_photos: Path,
    grid_detector: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (grid_output / "regions").iterdir()}
    with caplog.at_level(logging.INFO):
        run(many_photos, grid_output, grid_detector, "--shard-size", "16", "--min-boxes", "16")
    assert "nothing to do: all images (62)" in caplog.text
    assert before == {p: p.stat().st_mtime_ns for p in (grid_output / "regions").iterdir()}


def test_other_settings_on_the_same_output_are_refused_naming_them(
    grid_output: Path,
    many_photos: Path,
    grid_detector: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flags = ["--shard-size", "16", "--min-boxes", "10", "--dtype", "float32"]
    with pytest.raises(SystemExit) as stop:
        run(many_photos, grid_output, grid_detector, *flags)
    assert stop.value.code == 2
    assert "detector.min_boxes: 16 in the output, 10 now" in caplog.text
    assert "output.dtype: 'float16' in the output, 'float32' now" in caplog.text
    assert "shard_size" not in caplog.text.split("different settings")[1]


def test_missing_parts_are_made_again_bit_for_bit(
    grid_output: Path, many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(grid_output, out)
    whole = files_of(out)
    (out / "regions" / "part-00001.parquet").unlink()
    (out / "regions" / "part-00003.parquet").unlink()
    (out / "failures" / "part-00000.parquet").rename(out / "failures" / ".tmp-half")
    (out / "regions" / "part-00000.parquet").unlink()
    run(many_photos, out, grid_detector, "--shard-size", "16", "--min-boxes", "16")
    assert files_of(out) == whole


def test_images_that_turn_up_later_are_added_and_only_they(
    grid_output: Path, many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    out, images = tmp_path / "out", tmp_path / many_photos.name
    shutil.copytree(grid_output, out)
    shutil.copytree(many_photos, images)
    before = files_of(out)
    for index in (0, 1):  # before and after the names that are there
        shutil.copy(images / "crop 000.jpg", images / f"{'az'[index]} new.jpg")
    output = run(images, out, grid_detector, "--shard-size", "16", "--min-boxes", "16")
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"regions/part-00004.parquet"}
    assert output.image_ids[-2:] == ["a new", "z new"]
    np.testing.assert_array_equal(output["a new"].visual_feats, output["crop 000"].visual_feats)


def test_splits_are_recognised_and_can_be_chosen(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    for split, name in (("train", "astronaut"), ("val", "chelsea"), ("test", "coffee")):
        (root / split).mkdir(parents=True)
        shutil.copy(photos / f"{name}.png", root / split)
    output = run(root, tmp_path / "out", grid_detector, "--split", "train,val")
    assert output.image_ids == ["astronaut", "chelsea"]
    output = run(root, tmp_path / "out", grid_detector)
    assert output.image_ids == ["astronaut", "chelsea", "coffee"]
    (test,) = output.iter_batches(split="test")
    assert test["image_id"].to_pylist() == ["coffee"]
    assert test["path"].to_pylist() == ["test/coffee.png"]


def test_an_image_that_the_detector_cannot_take_costs_only_itself(
    many_photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ["--shard-size", "16", "--detector.options", '{"poison": 150}']
    output = run(many_photos, out, grid_detector, *flags)
    failures = output.failures().to_pylist()
    raised = [row for row in failures if row["stage"] == "detect"]
    assert raised
    assert all("too bright for me" in row["reason"] for row in raised)
    assert len(output) + len(failures) == 62


def test_a_detector_that_always_raises_ends_the_run_with_its_error(
    many_photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ["--detector.options", '{"always": true}']
    with pytest.raises(SystemExit) as stop:
        run(many_photos, tmp_path / "out", grid_detector, *flags)
    assert stop.value.code == 1
    assert "so the fault is in the detector" in caplog.text
    assert "this detector always raises" in caplog.text
    assert "correct the detector or its options" in caplog.text


def test_more_actors_than_the_cluster_holds_are_refused_with_the_numbers(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(photos, tmp_path / "out", grid_detector, "--actors", "8")
    assert stop.value.code == 2
    assert "8 CPUs are requested (8 actors x 1), but the cluster has 4" in caplog.text
    with pytest.raises(SystemExit):
        run(photos, tmp_path / "out", grid_detector, "--gpus-per-actor", "2", "--actors", "1")
    assert "2 GPUs are requested" in caplog.text
    assert "the cluster has 0" in caplog.text


def test_the_run_folder_repeats_the_run_and_holds_the_actors_words(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    run(photos, tmp_path / "one", grid_detector, "--project", "mine", "--max-boxes", "40")
    (folder,) = (tmp_path / "runs" / "mine").iterdir()
    (log,) = folder.glob("mine-extract-*.log")
    assert "detectors: 1 x 1 CPUs" in log.read_text()
    assert "5 images" in log.read_text()
    assert "vlray" in (folder / "requirements.txt").read_text()
    settings = str(folder / "settings.yaml")
    extract.main(["--config", settings, "--trust-code", "--output.path", str(tmp_path / "two")])
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_an_output_inside_the_images_folder_is_not_taken_for_images(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    root = tmp_path / "mine"
    shutil.copytree(photos, root)
    out = root / "out"
    run(root, out, grid_detector)
    (out / "gallery").mkdir()
    shutil.copy(photos / "coffee.png", out / "gallery" / "another.png")
    assert len(run(root, out, grid_detector)) == 5


def test_images_that_were_set_up_once_are_found_by_name_with_their_ids(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "elsewhere"
    for split, number, name in (("train2014", 9, "astronaut"), ("val2014", 42, "chelsea")):
        (folder / split).mkdir(parents=True)
        shutil.copy(photos / f"{name}.png", folder / split / f"COCO_{split}_{number:012d}.png")
    store("data.images.coco", str(folder))
    try:
        output = run("coco", tmp_path / "out", grid_detector, "--split", "train")
        assert output.image_ids == ["9"]
        assert (output.info.dataset, output.info.images_root) == ("coco", str(folder))
        by_dataset = run("vqa", tmp_path / "out", grid_detector)  # VQA's images are COCO's
        assert by_dataset.image_ids == ["9", "42"]
        settings = sorted(
            tmp_path.glob("runs/default/*/settings.yaml"), key=lambda p: p.stat().st_mtime
        )
        with caplog.at_level(logging.INFO):
            extract.main(["--config", str(settings[-1]), "--trust-code"])
        assert "nothing to do: all images (2)" in caplog.text
        own = run("coco", tmp_path / "own", grid_detector, "--id-rule", "stem", "--split", "val")
        assert own.image_ids == ["COCO_val2014_000000000042"]
    finally:
        remove("data.images.coco")
    # The same folder by its path is another dataset, as it always was.
    plain = run(folder, tmp_path / "plain", grid_detector, "--split", "val")
    assert (plain.info.dataset, plain.image_ids) == ("elsewhere", ["COCO_val2014_000000000042"])


def test_image_sets_are_also_looked_for_by_their_names_in_the_folder_of_all_data(
    photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    (tmp_path / "data" / "mine").mkdir(parents=True)
    shutil.copytree(photos, tmp_path / "data" / "gqa")
    shutil.copy(photos / "coffee.png", tmp_path / "data" / "mine")
    flags = ["--data.root", str(tmp_path / "data")]
    assert run("gqa-lxmert", tmp_path / "out", grid_detector, *flags).info.dataset == "gqa"
    flags = ["--data.images", f"cups={tmp_path / 'data' / 'mine'}"]
    cups = run("cups", tmp_path / "cups", grid_detector, *flags)
    assert (cups.info.dataset, cups.image_ids) == ("cups", ["coffee"])
    other = run("mine", tmp_path / "mine", grid_detector, "--env.data-dir", str(tmp_path / "data"))
    assert (other.info.dataset, other.image_ids) == ("mine", ["coffee"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("coc", "unknown image set or dataset 'coc'; did you mean coco? There are clevr, "),
        ("vqa", "vqa names the image set coco, but its folder "),
        ("vqa", "set it with: vlray env set data.images.coco FOLDER"),
        ("./coco", "/coco does not exist; pass a directory, an image, an archive"),
    ],
)
def test_a_name_that_stands_for_no_images_is_answered_with_those_that_do(
    images: str, message: str, grid_detector: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(images, "out", grid_detector)
    assert stop.value.code == 2
    assert message in caplog.text
    assert not Path("out").exists()


def test_replaced_photographs_are_done_again(
    photos: Path, grid_detector: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    images, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, images)
    (images / "bad.jpg").write_bytes(b"no image")
    flags = ["--shard-size", "2"]
    before = run(images, out, grid_detector, *flags)
    old = {name: before[name].visual_feats for name in before.image_ids}
    Image.new("RGB", (640, 513), (9, 9, 9)).save(images / "chelsea.png")
    (images / "coffee.png").write_bytes(b"no image any more")
    shutil.copy(photos / "rocket.jpg", images / "bad.jpg")
    with pytest.raises(SystemExit) as stop:
        run(images, out, grid_detector, *flags, "--on-changed", "refuse")
    assert stop.value.code == 2
    assert "changed after being extracted to" in caplog.text
    with caplog.at_level(logging.INFO):
        output = run(images, out, grid_detector, *flags)
    assert "extracted again after a change: 3 images" in caplog.text
    assert output["chelsea"].image_hw.tolist() == [[513, 640]]
    assert output.failures()["image_id"].to_pylist() == ["coffee"]
    np.testing.assert_array_equal(output["bad"].visual_feats, output["rocket"].visual_feats)
    for name in ("astronaut", "motorcycle_left", "rocket"):
        np.testing.assert_array_equal(output[name].visual_feats, old[name])
    query = f"select image_id from '{out}/regions/*.parquet' order by 1"
    ids = ["astronaut", "bad", "chelsea", "motorcycle_left", "rocket"]
    assert [row[0] for row in duckdb.sql(query).fetchall()] == ids
    # The same images, extracted at once, have the same rows.
    whole = run(images, tmp_path / "whole", grid_detector, *flags)
    assert sorted(whole.image_ids) == ids
    rows = [one.read(ids).replace_schema_metadata(None) for one in (whole, output)]
    assert rows[0].equals(rows[1])
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(images, out, grid_detector, *flags)
    assert "nothing to do: all images (6)" in caplog.text
