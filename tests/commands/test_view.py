from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlray import view
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table


@pytest.fixture
def output(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output of real photographs with one region each, as extract leaves it."""
    monkeypatch.chdir(tmp_path)
    files = sorted(photos.iterdir())
    sizes = []
    for file in files:
        with Image.open(file) as image:
            sizes.append((image.height, image.width))
    count = len(files)
    batch = RegionBatch(
        np.array(sizes, np.int32),
        np.ones(count, np.int32),
        np.array([[10, 10, w - 10, h / 2] for h, w in sizes], np.float32),
        np.zeros((count, 4), np.float32),
        np.arange(count, dtype=np.int32) % 2,
        np.linspace(0.2, 0.9, count, dtype=np.float32),
    )
    names = [file.name for file in files], [file.stem for file in files]
    table = to_table(batch, names[1], names[0], ["train"] * count, regions_schema(4))
    out = tmp_path / "out"
    (out / parts.REGIONS).mkdir(parents=True)
    (out / parts.REGIONS / parts.part_name(0)).write_bytes(parts.encode_regions(table, "zstd"))
    about = {
        "dataset": "photos",
        "images_root": str(photos),
        "detector": {"name": "made-up"},
        "settings": {},
        "vlray_version": "0",
        "schema_version": 1,
    }
    (out / parts.SETTINGS).write_text(json.dumps(about))
    (out / parts.LABELS).write_text(json.dumps({"obj_names": ["cat", "cup"], "attr_names": []}))
    return out


def test_view_makes_a_gallery_and_says_where(output, capsys):
    view.main([str(output)])
    printed = capsys.readouterr()
    page = output / "gallery" / "index.html"
    assert printed.out.splitlines()[0].split() == ["label", "regions", "images", "mean", "score"]
    assert printed.out.splitlines()[-1] == f"gallery: {page}"
    assert "5 images, 5 regions, 0 failures, 0 unreadable images" in printed.err
    assert page.is_file()
    assert len(list((output / "gallery" / "annotated").iterdir())) == 5


def test_view_takes_a_page_a_limit_and_a_score(output, tmp_path, capsys):
    view.main([
        str(output), "--page", "here", "--limit", "2", "--no-annotated", "--min-score", "0.3",
        "--split", "train",
    ])  # fmt: skip
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["index.html"]
    assert "1 of 2 regions have a score of at least 0.30" in capsys.readouterr().out


def test_view_leaves_a_run_folder_with_its_log(output, tmp_path):
    view.main([str(output)])
    (folder,) = (tmp_path / "runs" / "default").iterdir()
    assert folder.name.startswith("view-")
    (log,) = folder.glob("*.log")
    assert "5 images" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "has no vlray.json"),
        (["out", "--split", "valid"], "choose from: train"),
    ],
)
def test_a_mistake_ends_view_with_one_line_and_status_2(output, arguments, words, capsys):
    with pytest.raises(SystemExit) as ending:
        view.main(arguments)
    assert ending.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("vlray view: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("processes")
def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vlray import view\n"
        "try:\n    view.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'PIL', 'pyarrow', 'torch', 'ray'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--min-score" in done.stdout
