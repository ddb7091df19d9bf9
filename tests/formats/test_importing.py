from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest

from tests.formats.written_text import Image, b64, write
from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output
from vlray.formats.importing import ImportResult, import_file
from vlray.formats.report import flag_lines, report
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.schema import from_table

MANY = [Image(f"COCO_train2014_{n:012d}", ((480, 640), (500, 375))[n % 2], 5) for n in range(20)]


def convert(source: Path, out: Path, **options: Any) -> tuple[RegionOutput, ImportResult]:
    config = ConvertConfig(source=str(source), output=str(out), **({"shard_size": 4} | options))
    result = import_file(config)
    return open_output(str(out)), result


def files_of(out: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if path.name != ".lock"}


def flags_of(out: Path) -> dict[str, list[str]]:
    flags: dict[str, list[str]] = {}
    for path in sorted((out / "flags").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            flags.setdefault(row["flag"], []).append(row["image_id"])
    return flags


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "many.tsv", [image.tsv10() for image in MANY])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs" / "train2014"
    folder.mkdir(parents=True)
    for image in MANY:
        PIL.Image.new("RGB", image.hw[::-1]).save(folder / f"{image.image_id}.jpg", quality=1)
    return folder


def test_an_import_is_an_output_like_any_other(source: Path, tmp_path: Path) -> None:
    output, result = convert(source, tmp_path / "out", dtype="float32", split="train")
    assert (result.images, result.regions, result.failed) == (20, 100, 0)
    assert output.image_ids == [image.image_id for image in MANY]
    assert output.info.detector["name"] == "many.tsv"
    assert output.info.settings["convert.format"] == "tsv10"
    assert len(list((tmp_path / "out" / "plan").iterdir())) == 5
    for image in MANY[:3]:
        row = output[image.image_id]
        assert row.image_hw.tolist() == [list(image.hw)]
        np.testing.assert_array_equal(row.boxes, image.boxes)
        np.testing.assert_array_equal(row.visual_feats, image.feats)
        np.testing.assert_array_equal(row.obj_ids, image.objects)
        np.testing.assert_array_equal(row.attr_probs, image.attribute_probs)
    table = output.read(output.image_ids, ["split"])
    assert set(table["split"].to_pylist()) == {"train"}


def test_photographs_give_paths_splits_and_a_common_id(
    source: Path, photographs: Path, tmp_path: Path
) -> None:
    options = {"images": str(photographs.parent), "id_rule": "coco"}
    output, _ = convert(source, tmp_path / "out", **options)
    assert output.image_ids[:2] == ["0", "1"]
    row = output.read(["7"], ["path", "split"]).to_pylist()[0]
    assert row == {"path": "train2014/COCO_train2014_000000000007.jpg", "split": "train2014"}
    assert Path(output.info.images_root) == photographs.parent


def test_photographs_of_other_images_are_a_mistake(
    source: Path, photographs: Path, tmp_path: Path
) -> None:
    for path in photographs.iterdir():
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(ValueError, match=r"any of the first 20 images \(COCO_.*--id-rule coco"):
        convert(source, tmp_path / "out", images=str(photographs))


def test_what_was_killed_anywhere_ends_as_the_unbroken_output(source: Path, tmp_path: Path) -> None:
    lines = source.read_text().splitlines(keepends=True)
    lines[6:6] = ["broken\tline\n", lines[2]]  # one unreadable, one duplicate
    write(source, [*lines, "\n"])
    convert(source, tmp_path / "whole")
    whole = files_of(tmp_path / "whole")
    assert {name.partition("/")[0] for name in whole} >= {"regions", "plan", "failures"}
    for name in (n for n in whole if n.startswith("regions")):
        out = tmp_path / name.replace("/", "-")
        convert(source, out)
        # What a kill leaves: nothing from this part on, and halves of files.
        for later in (out / "regions").iterdir():
            if later.name >= Path(name).name:
                later.unlink()
        (out / "regions" / ".tmp-0").write_bytes(b"half")
        _, result = convert(source, out)
        assert files_of(out) == whole
        assert result.existing + result.done >= 20 > result.existing


def test_a_part_that_is_missing_in_between_is_made_again(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out")
    whole = files_of(tmp_path / "out")
    (tmp_path / "out" / "regions" / "part-00002.parquet").unlink()
    _, result = convert(source, tmp_path / "out")
    assert (result.images, result.existing) == (4, 16)
    assert files_of(tmp_path / "out") == whole


def test_a_finished_output_has_nothing_to_do(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out")
    _, result = convert(source, tmp_path / "out")
    assert report(result)[0] == f"nothing to do: all images (20) are already in {tmp_path / 'out'}"


def test_other_settings_are_refused_and_an_edited_file_on_request(
    source: Path, tmp_path: Path
) -> None:
    convert(source, tmp_path / "out")
    with pytest.raises(ValueError, match=r"output\.dtype: 'float16' in the output, 'float32' now"):
        convert(source, tmp_path / "out", dtype="float32")
    write(source, [image.tsv10() for image in MANY[:19]])
    with pytest.raises(ValueError, match=r"many\.tsv has changed since"):
        convert(source, tmp_path / "out", on_changed="refuse")
    _, result = convert(source, tmp_path / "out")
    assert (result.is_redone, result.images) == (True, 19)


def test_bad_rows_become_failures_with_their_reasons(tmp_path: Path) -> None:
    image = Image("x")
    nan = image.feats.copy()
    nan[1, 2] = np.nan
    rows = {
        "broken": ("Damaged", "boxes is not valid base64", {"boxes": "?"}),
        "nan": (
            "BadRow",
            "feature vectors contain a non-finite value",
            {"features": b64(nan, "<f4")},
        ),
        "long": ("BadRow", "have shape (5, 16)", {"features": b64(np.zeros((5, 16)), "<f4")}),
        "negative": ("BadRow", "object ids range from -1", {"objects_id": b64([-1] * 5, "<i8")}),
        "xywh": ("BadRow", "before it starts", {"boxes": b64([[99, 9, 9, 9]] * 5, "<f4")}),
    }
    lines = [image.tsv10(), *(image.tsv10(img_id=n, **row[2]) for n, row in rows.items())]
    output, result = convert(write(tmp_path / "bad.tsv", [*lines, image.tsv10()]), tmp_path / "out")
    failures = {row["image_id"]: row for row in output.failures().to_pylist()}
    assert output.image_ids == ["x"]
    for name, (error, reason, _) in rows.items():
        assert failures[name]["error"] == error
        assert reason in failures[name]["reason"]
    assert "has several rows with the id x" in failures["x"]["reason"]
    assert result.reasons == {"BadRow": 4, "Damaged": 1, "DuplicateId": 1}
    assert "6 images failed (4 BadRow" in report(result)[1]


def test_doubtful_rows_are_flagged_and_failed_only_when_asked(tmp_path: Path) -> None:
    good, alike = Image("good", count=12), Image("alike", count=12)
    feats = np.ones((12, 2048), np.float32)
    for image in (good, alike):
        image.feats = feats
    feats_negative = feats.copy()
    feats_negative[3, 5] = -0.5
    outside = good.boxes.copy()
    outside[2] = [600, 10, 700, 20]
    lines = [
        good.tsv10(),
        alike.tsv10(objects_id=b64([72] * 11 + [3], "<i8")),
        good.tsv10(img_id="outside", boxes=b64(outside, "<f4")),
        good.tsv10(img_id="negative", features=b64(feats_negative, "<f4")),
        good.tsv10(img_id="large", features=b64(feats * 70000, "<f4")),
        good.tsv10(img_id="zeros", attrs_id=b64([0] * 12, "<i8"), attrs_conf=b64([0] * 12, "<f4")),
    ]
    source = write(tmp_path / "doubtful.tsv", lines)
    output, _ = convert(source, tmp_path / "out")
    assert flags_of(tmp_path / "out") == {
        "one-label": ["alike"],
        "boxes-outside": ["outside"],
        "features-negative": ["negative"],
        "features-clipped": ["large"],
        "no-attributes": ["zeros"],
    }
    assert output["outside"].boxes.max() == 640
    assert output["zeros"].attr_ids is None
    assert output["good"].attr_ids is not None
    said = "\n".join(flag_lines(str(tmp_path / "out")))
    assert "one-label: 1 image: nearly all regions have the same label" in said
    assert "e.g. alike ('sky' on 11 of 12 boxes)" in said
    strict, _ = convert(source, tmp_path / "strict", strict=True)
    assert strict.image_ids == ["good", "zeros"]
    assert set(strict.failures()["error"].to_pylist()) == {"Doubtful"}


def test_images_without_a_head_and_with_one_share_a_file(tmp_path: Path) -> None:
    zeros = {"attrs_id": b64([0] * 5, "<i8"), "attrs_conf": b64([0] * 5, "<f4")}
    lines = [im.tsv10(**(zeros if n % 3 else {})) for n, im in enumerate(MANY[:4])]
    output, _ = convert(write(tmp_path / "mixed.tsv", lines), tmp_path / "out")
    attributes = [from_table(output.read([i])).attr_ids for i in output.image_ids]
    assert [values is None for values in attributes] == [False, True, True, False]


def test_sizes_from_a_file_place_fractions(tmp_path: Path) -> None:
    image = MANY[0]
    fractions = image.boxes / np.float32([640, 480, 640, 480])
    line = image.tsv10(img_h=0, img_w=0, boxes=b64(fractions, "<f4"))
    source = write(tmp_path / "fractions.tsv", [line])
    output, result = convert(source, tmp_path / "without")
    assert result.failed == 1
    assert "pass --images FOLDER" in output.failures()["reason"][0].as_py()
    sizes = tmp_path / "sizes.json"
    about = {"id": 0, "file_name": f"{image.image_id}.jpg", "height": 480, "width": 640}
    sizes.write_text(json.dumps({"images": [about]}))
    output, _ = convert(source, tmp_path / "with", sizes=str(sizes))
    np.testing.assert_allclose(output[image.image_id].boxes, image.boxes, rtol=1e-5)
    assert output.info.settings["convert.boxes"] == "normalized"


def test_words_get_ids_in_the_order_of_their_coming_even_after_a_kill(tmp_path: Path) -> None:
    words = [["cat", "dog"], ["dog"], ["eel"], ["fox", "cat"], ["gnu"]]
    lines = [im.vinvl(w, ["old"]) for im, w in zip(MANY, words, strict=False)]
    source = write(tmp_path / "predictions.tsv", lines)
    sizes = tmp_path / "hw.tsv"
    sizes.write_text(
        "".join(f'{i.image_id}\t[{{"height": {i.hw[0]}, "width": {i.hw[1]}}}]\n' for i in MANY)
    )
    options = {"sizes": str(sizes), "shard_size": 2}
    output, _ = convert(source, tmp_path / "out", **options)
    assert output.obj_names == ("cat", "dog", "eel", "fox", "gnu")
    assert output.attr_names == ("old",)
    ids = output[MANY[3].image_id].obj_ids
    assert ids is not None
    assert ids.tolist() == [3, 0, 3, 0, 3]
    whole = files_of(tmp_path / "out")
    for number in (2, 1):
        (tmp_path / "out" / "regions" / f"part-0000{number}.parquet").unlink()
    convert(source, tmp_path / "out", **options)
    assert files_of(tmp_path / "out") == whole


def test_ids_beyond_the_names_are_flagged(tmp_path: Path) -> None:
    names = tmp_path / "objects.txt"
    names.write_text("\n".join(f"name {n}" for n in range(1600)))
    one_based = MANY[0].tsv10(objects_id=b64([1, 2, 1600, 4, 5], "<i8"))
    source = write(tmp_path / "labels.tsv", [one_based, MANY[1].tsv10()])
    output, _ = convert(source, tmp_path / "out", labels=(str(names),))
    assert output.obj_names[7] == "name 7"
    (line,) = flag_lines(str(tmp_path / "out"))[1:]
    assert "labels-unknown: 1 image" in line
    assert "object id 1600 with only 1,600 names; the ids may count from 1" in line


def test_an_output_in_a_bucket_is_written_finished_and_exported(
    source: Path, bucket: str, tmp_path: Path
) -> None:
    output, _ = convert(source, bucket)
    assert len(output) == 20
    _, again = convert(source, bucket)
    assert (again.existing, again.done) == (20, 0)
    export_output(ConvertConfig(source=bucket, output=str(tmp_path / "again.tsv")))
    assert (tmp_path / "again.tsv").read_bytes() == source.read_bytes()


def test_no_readable_row_at_all_is_a_mistake_that_says_why(tmp_path: Path) -> None:
    broken = [image.tsv10(boxes="?") for image in MANY[:6]]
    source = write(tmp_path / "broken.tsv", broken)
    with pytest.raises(ValueError, match="matches no supported format"):
        convert(source, tmp_path / "out")
    with pytest.raises(ValueError, match="not have the format tsv10: boxes is not valid base64"):
        convert(source, tmp_path / "out", format="tsv10")


def test_a_reader_of_the_users_own_is_one_like_ours(source: Path, tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(
        "from vlray.formats.readers.tsv import Tsv10Reader\n"
        "class Mine(Tsv10Reader):\n    name = 'mine'\n"
    )
    output, _ = convert(source, tmp_path / "out", format=f"{module}:Mine")
    assert len(output) == 20


def test_the_published_features_keep_their_boxes_and_labels(shared: Path, tmp_path: Path) -> None:
    butd = shared / "fixtures" / "butd"
    output, result = convert(
        butd / "train2014_obj36.tsv", tmp_path / "out", images=str(butd), id_rule="coco"
    )
    assert (result.images, result.failed, flags_of(tmp_path / "out")) == (10, 0, {})
    row = output["201446"]
    assert row.obj_ids is not None
    assert row.attr_ids is not None
    assert row.obj_probs is not None
    best = int(row.obj_probs.argmax())
    label = f"{output.attr_names[row.attr_ids[best]]} {output.obj_names[row.obj_ids[best]]}"
    assert (label, f"{row.obj_probs[best]:.2f}") == ("orange carrot", "0.97")


def test_vltks_damaged_file_gives_no_wrong_boxes(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures/vltk/train.arrow"
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("id,height,width\n" + "".join(f"{n},600,800\n" for n in range(1000, 1010)))
    with pytest.raises(
        ValueError, match=r"values reach 1\.495 \(too large in 10 of the first 10 images"
    ):
        convert(source, tmp_path / "out", sizes=str(sizes))
    assert not (tmp_path / "out").exists()
    output, result = convert(source, tmp_path / "out", sizes=str(sizes), boxes="shorter-side")
    # These two are not 800 x 600, as their boxes tell: one is wider, the other is upright.
    assert set(output.failures()["image_id"].to_pylist()) == {"1003", "1006"}
    assert (result.images, output.info.settings["convert.boxes"]) == (8, "shorter-side")
    assert max(output[image_id].boxes[:, 2].max() for image_id in output.image_ids) > 795
    assert len(flags_of(tmp_path / "out")["one-label"]) == 10


def test_an_import_in_which_every_image_failed_holds_nobody_to_its_settings(tmp_path: Path) -> None:
    source = write(tmp_path / "sizeless.tsv", [im.tsv10(img_h=0, img_w=0) for im in MANY[:6]])
    _, result = convert(source, tmp_path / "out")
    assert (result.images, result.failed) == (0, 6)
    sizes = tmp_path / "sizes.csv"
    rows = (f"{im.image_id},{im.hw[0]},{im.hw[1]}\n" for im in MANY)
    sizes.write_text("id,height,width\n" + "".join(rows))
    output, result = convert(source, tmp_path / "out", sizes=str(sizes))
    assert (result.images, output.failures().num_rows) == (6, 0)
    with pytest.raises(ValueError, match="was made with different settings"):
        convert(source, tmp_path / "out")
