from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest
from PIL import ExifTags

from vlray.formats.sizes import Photographs, read_sizes
from vlray.images.find import list_images

FORMS = {
    "coco.json": json.dumps(
        {"images": [{"id": 7, "file_name": "a_7.jpg", "height": 3, "width": 4}]}
    ),
    "sizes.csv": "width,id,height\n4,7,3\n",
    "sizes.tsv": "id\theight\twidth\n7\t3\t4\n",
    "hw.tsv": '7\t[{"height": 3, "width": 4}]\n',
    "hw2.tsv": '7\t{"height": 3, "width": 4}\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_sizes_are_read_from_every_form(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name])
    assert read_sizes(tmp_path / name, "keep")["7"] == (3, 4)
    assert read_sizes(tmp_path / name, "coco")["7"] == (3, 4)


def test_a_coco_image_also_counts_by_its_files_name(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(FORMS["coco.json"])
    assert read_sizes(tmp_path / "coco.json", "keep")["a_7"] == (3, 4)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "id,height,width\n7,tall,4\n"])
def test_other_files_are_refused_with_what_is_wanted(text: str, tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(ValueError, match="id, height and width"):
        read_sizes(tmp_path / "sizes.csv", "keep")


def test_a_photograph_has_the_size_of_its_upright_image(tmp_path: Path) -> None:
    upright, turned = tmp_path / "upright.jpg", tmp_path / "turned.jpg"
    image = PIL.Image.new("RGB", (40, 30))
    image.save(upright)
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(turned, exif=exif)
    (tmp_path / "broken.jpg").write_text("no image")
    photographs = Photographs.of(list_images(str(tmp_path)))
    assert photographs.look_up("upright", "upright").image_hw == (30, 40)
    assert photographs.look_up("turned", "turned").image_hw == (40, 30)
    assert photographs.look_up("broken", "broken").flag == "photograph-unreadable"
    assert photographs.look_up("other", "raw").flag == "photograph-missing"
    assert photographs.look_up("other", "raw").path == "raw.jpg"
    assert photographs.look_up("other", "raw.png").path == "raw.png"
