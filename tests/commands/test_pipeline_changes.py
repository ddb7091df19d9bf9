"""A pipeline whose photographs are replaced: its extraction and what reads it are redone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vlray.regions.output import open_output

STORY = """\
project: tiny
steps:
  regions:
    command: extract
    images: {{root: {images}}}
    detector: {{name: "{detector}"}}
  page: {{command: view, output: $regions, page: page, annotated: false}}
"""


def call(*args: str, address: str, folder: Path) -> str:
    command = [sys.executable, "-m", "vlray.pipeline", *args, "--trust-code"]
    environment = os.environ | {"RAY_ADDRESS": address}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("form", ["folder", pytest.param("list", marks=pytest.mark.thorough)])
def test_replaced_photographs_are_extracted_again_and_what_reads_them_follows(
    form: str, ray_cluster: str, photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photos / name, images)
    (tmp_path / "some.txt").write_text("photos/chelsea.png\nphotos/coffee.png\n")
    root = images if form == "folder" else tmp_path / "some.txt"
    story = STORY.format(images=root, detector=grid_detector)
    (tmp_path / "story.yaml").write_text(story)
    call("story.yaml", address=ray_cluster, folder=tmp_path)
    Image.new("RGB", (640, 513)).save(images / "coffee.png")
    said = call("story.yaml", address=ray_cluster, folder=tmp_path)
    assert f"regions: running vlray extract ({root} has changed" in said
    assert "extracted again after a change: 1 image" in said
    assert "page: running vlray view (pipelines/story/regions has changed" in said
    output = open_output(str(tmp_path / "pipelines" / "story" / "regions"))
    assert sorted(output.image_ids) == ["chelsea", "coffee"]
    assert output["coffee"].image_hw.tolist() == [[513, 640]]
    assert "regions: already done" in call("story.yaml", address=ray_cluster, folder=tmp_path)
