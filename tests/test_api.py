"""The public Python API: its names, and ``vlray.extract`` as a function and a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vlray


@pytest.mark.usefixtures("processes")
def test_the_public_names_are_there_and_import_lazily() -> None:
    assert set(vlray.__all__) == {
        "__version__",
        "detector_info",
        "extract",
        "find_regions",
        "open_loader",
        "open_output",
    }
    code = (
        "import sys, vlray; vlray.extract;"
        "assert not {'torch', 'ray', 'pyarrow'} & set(sys.modules);"
        "from vlray import *; assert callable(extract) and callable(open_loader)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_extract_is_a_function_and_the_commands_module() -> None:
    from vlray.extract import main

    assert vlray.extract.main is main
    assert callable(vlray.extract)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_boxs": 10}, r"no option 'max_boxs'; did you mean max_boxes\?"),
        ({"max_boxes": 0}, r"detector.max_boxes is 0: .*greater than or equal to 1"),
        ({"min_boxes": 50, "max_boxes": 10}, "min_boxes"),
        ({"cluster": {"actors": -1}}, r"cluster.actors is -1"),
        ({"cluster": {"actor": 1}}, r"cluster.actor is 1"),
        ({"detector": "nowhere.py:Mine"}, "nowhere.py"),
        ({"name": "vg-caffe"}, r"detector.name is set twice"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, Any], words: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        vlray.extract(photos, tmp_path / "out", **options)


def test_extract_writes_an_output_in_the_running_ray(
    ray_cluster: str, photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = vlray.extract(
        photos, out, detector=grid_detector, shard_size=2, output={"dtype": "float32"}
    )
    assert (result.images, result.failed) == (5, 0)
    output = vlray.open_output(result.output)
    assert len(output) == 5
    assert result.regions == sum(len(output[image_id].boxes) for image_id in output.image_ids)
    again = vlray.extract(
        photos, out, detector=grid_detector, output={"dtype": "float32"}, shard_size=2
    )
    assert (again.images, again.planned) == (0, 5)
