from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlray.gallery import build, run, table
from vlray.regions.output import open_output


def data_of(path) -> dict:
    text = Path(path).read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def thumbnail_of(path, index: int) -> Image.Image:
    text = re.search(f'id="t{index}">([^<]*)<', Path(path).read_text("utf-8"))[1]
    return Image.open(io.BytesIO(base64.b64decode(text)))


def pixels(file) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.int32)


def rescale(file, width: int, height: int) -> None:
    Image.fromarray(pixels(file).astype(np.uint8)).resize((width, height)).save(file)


def test_a_gallery_says_what_it_shows(make_output):
    output = make_output()
    result = build(output)
    assert (result.images, result.regions, result.failures, result.missing) == (5, 7, 2, 1)
    assert result.path == str(Path(output.path) / "gallery" / "index.html")
    totals = data_of(result.path)["totals"]
    assert totals == {"images": 5, "regions": 7, "labels": 3, "few": 3, "failures": 2}


def test_thumbnails_are_the_photographs(make_output):
    result = build(make_output())
    picture = np.asarray(thumbnail_of(result.path, 0).convert("RGB"), np.int32)
    assert picture.shape == (60, 80, 3)
    # Red first: an image that went through BGR came back from it.
    np.testing.assert_allclose(picture[15, 15], [200, 140, 30], atol=25)


def test_annotated_files_show_regions_from_the_score_on(make_output, tmp_path):
    def drawn(min_score: float) -> int:
        page = tmp_path / f"page-{min_score}"
        build(make_output_once, page=str(page), min_score=min_score)
        plain = pixels(tmp_path / "photos/train/a/b c.png")
        (file,) = (page / "annotated").glob("a_b_c.*.jpg")
        return int((np.abs(pixels(file) - plain).max(axis=2) > 60).sum())

    make_output_once = make_output()
    assert drawn(0.5) > 50
    assert drawn(0.6) == 0


def test_annotated_files_can_be_left_out(make_output):
    result = build(make_output(), annotated=False)
    assert sorted(path.name for path in Path(result.path).parent.iterdir()) == ["index.html"]
    assert data_of(result.path)["annotated"] == ""


def test_every_annotated_file_that_the_page_names_exists(make_output):
    result = build(make_output())
    files = [image[6] for image in data_of(result.path)["images"]]
    there = {path.name for path in (Path(result.path).parent / "annotated").iterdir()}
    assert there == set(files) - {""}
    assert len(there) == 4


def test_an_image_that_is_gone_is_named_and_counted(make_output, caplog):
    result = build(make_output())
    assert result.missing == 1
    assert "1 of 5 images" in caplog.text
    assert "gone.jpg" in caplog.text


def test_a_damaged_image_is_counted_too(make_output, tmp_path):
    output = make_output()
    (tmp_path / "photos/train/COCO_train2014_000000084002.jpg").write_bytes(b"<html>")
    assert build(output).missing == 2


def test_images_that_moved_are_found_where_they_are_now(make_output, tmp_path):
    output = make_output()
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert build(output).missing == 5
    assert build(output, images_root=str(tmp_path / "elsewhere")).missing == 1


def test_boxes_follow_an_image_that_was_scaled_since(make_output, tmp_path):
    output = make_output()
    file = tmp_path / "photos/train/a/b c.png"
    rescale(file, 160, 120)
    result = build(output)
    (annotated,) = (Path(result.path).parent / "annotated").glob("a_b_c.*.jpg")
    assert pixels(annotated).shape == (120, 160, 3)


def test_large_photographs_become_small_pictures(make_output, tmp_path):
    output = make_output()
    file = tmp_path / "photos/train/a/b c.png"
    rescale(file, 4000, 3000)
    result = build(output)
    (annotated,) = (Path(result.path).parent / "annotated").glob("a_b_c.*.jpg")
    assert pixels(annotated).shape == (1200, 1600, 3)
    assert thumbnail_of(result.path, 1).size == (1280, 960)


def test_several_linked_pages_share_many_images(make_output, monkeypatch):
    monkeypatch.setattr(run, "IMAGES_PER_PAGE_FILE", 2)
    result = build(make_output())
    folder = Path(result.path).parent
    pages = [folder / name for name in ("index.html", "page-2.html", "page-3.html")]
    found = [data_of(page) for page in pages]
    assert [len(data["images"]) for data in found] == [2, 2, 1]
    assert [data["part"] for data in found] == [0, 1, 2]
    assert found[1]["parts"] == [
        ["index.html", 1, 2],
        ["page-2.html", 3, 4],
        ["page-3.html", 5, 5],
    ]
    assert {data["totals"]["images"] for data in found} == {5}


def test_a_shorter_gallery_leaves_no_page_of_the_longer_one(make_output, monkeypatch):
    output = make_output()
    monkeypatch.setattr(run, "IMAGES_PER_PAGE_FILE", 2)
    folder = Path(build(output).path).parent
    (folder / "page-9.html").write_text("not ours")
    monkeypatch.undo()
    build(output)
    assert sorted(path.name for path in folder.glob("*.html")) == ["index.html", "page-9.html"]


def test_splits_choose_images_and_failures(make_output):
    result = build(make_output(), split=("train",))
    assert (result.images, result.failures) == (2, 1)
    data = data_of(result.path)
    assert data["splits"] == ["train"]
    assert [failure[0] for failure in data["failures"]] == ["worse"]


def test_an_unknown_split_is_refused_with_the_known_ones(make_output):
    with pytest.raises(ValueError, match=r"split test; choose from: train, val"):
        build(make_output(), split=("test",))


def test_an_output_without_images_has_a_gallery(make_output):
    result = build(make_output(photos=()))
    assert (result.images, result.regions, result.failures) == (0, 0, 2)
    assert data_of(result.path)["images"] == []


def test_an_output_without_labels_has_a_gallery(make_output):
    result = build(make_output(labels=False))
    assert data_of(result.path)["labels"] == []
    assert result.regions == 7
    assert "no labelled region" in table(result.summary)


def test_regions_without_their_photographs_have_a_gallery(make_output, caplog):
    output = make_output()
    output = replace(output, info=replace(output.info, images_root=""))
    result = build(output)
    assert (result.images, result.missing) == (5, 5)
    assert "the output does not store where its images are. Pass --images-root" in caplog.text


def test_labels_without_scores_have_a_gallery(make_output):
    result = build(make_output(scores=False), annotated=True)
    assert data_of(result.path)["labels"] == ["carrot", "plate", "orange", "<b>&\"'"]
    assert data_of(result.path)["attributes"] == []
    assert result.regions == 7
    assert table(result.summary).splitlines()[1:3] == [
        "carrot        3       2           -",
        "plate         2       2           -",
    ]


def test_the_table_counts_labels(make_output):
    assert table(make_output(), min_score=0.3).splitlines() == [
        "label   regions  images  mean score",
        "carrot        3       2        0.69",
        "plate         2       2        0.57",
        "<b>&\"'        1       1        0.88",
        "6 of 7 regions have a score of at least 0.30: 3 labels",
    ]


def test_the_table_says_how_much_it_leaves_out(make_output):
    lines = table(make_output(), min_score=0, rows=1).splitlines()
    assert len(lines) == 3
    assert lines[-1] == "7 of 7 regions have a score of at least 0.00: 4 labels, 1 listed"


def test_output_photographs_and_gallery_may_all_be_in_a_bucket(make_output, tmp_path, monkeypatch):
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    make_output()
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host = "{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=f"http://{host}", region_name="us-east-1")
        client.create_bucket(Bucket="vlray")
        for file in filter(Path.is_file, tmp_path.rglob("*")):
            client.upload_file(str(file), "vlray", str(file.relative_to(tmp_path)))
        options = f"endpoint_override=http://{host}&region=us-east-1"
        output = open_output(f"s3://vlray/out?{options}")
        result = build(output, images_root=f"s3://vlray/photos?{options}")
        keys = {item["Key"] for item in client.list_objects_v2(Bucket="vlray")["Contents"]}
    finally:
        server.stop()
    assert (result.images, result.missing) == (5, 1)
    assert result.path == "s3://vlray/out/gallery/index.html"
    assert {"out/gallery/index.html", "out/gallery/annotated/84002.jpg"} <= keys
