"""``vlray compare``, from the command line to its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlray import compare, convert
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table


def write(out: Path, photos: Path, features: np.ndarray, score: float) -> None:
    """Write an output of real photographs with two regions each, as extract leaves it."""
    names = sorted(path.name for path in photos.iterdir())
    sizes = []
    for name in names:
        with Image.open(photos / name) as image:
            sizes.append((image.height, image.width))
    boxes = [box for h, w in sizes for box in ((0, 0, w, h), (10, 10, w / 2, h / 2))]
    count = len(names)
    batch = RegionBatch(
        np.array(sizes, np.int32),
        np.full(count, 2, np.int32),
        np.array(boxes, np.float32),
        features.astype(np.float32),
        np.zeros(2 * count, np.int32),
        np.full(2 * count, score, np.float32),
    )
    ids = [name.partition(".")[0] for name in names]
    table = to_table(batch, ids, names, ["train"] * count, regions_schema(8, "float32"))
    (out / parts.REGIONS).mkdir(parents=True)
    (out / parts.REGIONS / parts.part_name(0)).write_bytes(parts.encode_regions(table, "zstd"))
    about = {
        "dataset": "photos",
        "images_root": str(photos),
        "detector": {"name": "made-up"},
        "settings": {"detector.precision": out.name},
        "vlray_version": "0",
        "schema_version": 1,
    }
    (out / parts.SETTINGS).write_text(json.dumps(about))
    (out / parts.LABELS).write_text(json.dumps({"obj_names": ["cat"], "attr_names": []}))


@pytest.fixture
def outputs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two outputs, ``fp32`` and ``bf16``, whose features and scores differ a little."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    features = rng.random((10, 8))
    write(tmp_path / "fp32", photos, features, 0.75)
    write(tmp_path / "bf16", photos, features + rng.normal(0, 0.01, features.shape), 0.5)
    return tmp_path


def test_compare_prints_a_table_and_leaves_its_report_in_the_run_folder(outputs, capsys) -> None:
    compare.main(["fp32", "bf16"])
    printed = capsys.readouterr().out
    assert "detector.precision  fp32  bf16" in printed
    assert "boxes in A with a partner in B  10 of 10 (100.0 %)" in printed
    assert "pairs with the same class       10 of 10 (100.0 %)" in printed
    assert "B's scores are 0.2500 below A's on average." in printed
    (folder,) = (outputs / "runs" / "default").iterdir()
    assert folder.name.startswith("compare-")
    report = json.loads((folder / "compare.json").read_text())
    assert f"metrics: runs/default/{folder.name}/compare.json" in printed
    assert f"{report['overall']['rel_l2']['mean']:.3g}" in printed
    assert [row["image_id"] for row in report["per_image"]][:2] == ["astronaut", "chelsea"]
    assert (folder / "compare.html").stat().st_size > 50_000


def test_compare_takes_a_place_for_its_report(outputs, capsys) -> None:
    compare.main(["fp32", "fp32", "--report", "here", "--worst", "0"])
    assert [path.name for path in (outputs / "here").iterdir()] == ["compare.json"]
    assert "are identical" in capsys.readouterr().out


def test_limits_that_are_not_reached_end_with_status_1(outputs, capsys) -> None:
    with pytest.raises(SystemExit) as ending:
        compare.main(["fp32", "bf16", "--min-cosine", "0.99999", "--min-matched", "1"])
    assert ending.value.code == 1
    printed = capsys.readouterr()
    assert "below --min-cosine 0.99999" in printed.err
    assert "--min-matched" not in printed.err
    assert "metrics: " in printed.out
    compare.main(["fp32", "bf16", "--min-cosine", "0.99", "--min-matched", "1"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "fp32"], "A: nowhere does not exist"),
        (["fp32", "fp32/labels.json"], "fp32/labels.json matches no supported format: it is JSON"),
        (["fp32", "bf16", "--split", "valid"], "choose from: train"),
        (["fp32", "bf16", "--iou-thresh", "2"], "less than or equal to 1"),
        (["fp32"], "B (b) is missing"),
    ],
)
def test_a_mistake_ends_compare_with_status_2(outputs, arguments, words, capsys) -> None:
    with pytest.raises(SystemExit) as ending:
        compare.main(arguments)
    assert ending.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("vlray compare: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("processes")
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vlray import compare\n"
        "try:\n    compare.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'PIL', 'pyarrow', 'torch', 'ray'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--iou-thresh" in done.stdout


def test_files_of_other_tools_are_compared_as_they_are(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.main(["fp32", "there.tsv"])
    capsys.readouterr()
    compare.main(["there.tsv", "fp32", "--report", "report"])
    shown = capsys.readouterr()
    assert "A: importing there.tsv (tsv10) for this command" in shown.err
    result = json.loads((outputs / "report" / "compare.json").read_text())
    assert result["a"]["path"] == "there.tsv"
    assert result["overall"]["matched_share"] == 1
    assert result["overall"]["cosine"]["min"] == pytest.approx(1, abs=1e-6)
    (outputs / "notes.txt").write_text("nothing of that kind\n")
    with pytest.raises(SystemExit) as ended:
        compare.main(["fp32", "notes.txt"])
    assert ended.value.code == 2
    assert "B: notes.txt matches no supported format: it is text" in capsys.readouterr().err
