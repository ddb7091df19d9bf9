"""Images by the name of their set, where the datasets that share them disagree."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.data import ImageSetsSection
from vlray.config.images import ImagesSection
from vlray.tasks.catalogue import user_folder
from vlray.tasks.image_sets import find_images

MINE = """
name: mine
title: Mine
purposes: [captioning]
layout: coco_captions
image_set: coco
id_rule: stem
metric: captioning
splits: {train: {}}
"""


def test_a_set_whose_datasets_name_images_differently_wants_to_be_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    user_folder().mkdir(parents=True)
    (user_folder() / "mine.yaml").write_text(MINE)
    data = ImageSetsSection(images={"coco": str(tmp_path)})
    with pytest.raises(
        ValueError, match=r"different id rules: coco \(.*\), stem \(mine\); choose one"
    ):
        find_images(ImagesSection(root="coco"), data, Path())
    told = find_images(ImagesSection(root="coco", id_rule="path"), data, Path())
    assert (told.root, told.dataset, told.id_rule) == (str(tmp_path), "coco", "path")
    by_dataset = find_images(ImagesSection(root="mine"), data, Path())
    assert (by_dataset.dataset, by_dataset.id_rule) == ("coco", "stem")
