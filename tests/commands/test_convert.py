"""The convert command from its arguments to its files, its words and its status."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.formats.written_text import Image, write
from vlray import convert, extract, view
from vlray.config.formats import FORMATS
from vlray.regions.output import open_output


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # run folders go there


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "few.tsv", [Image(f"i{n}").tsv10() for n in range(6)])


def files_of(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    paths = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return {str(path.relative_to(place)): path.read_bytes() for path in paths if path.suffix}


def status_of(*argv: str) -> object:
    with pytest.raises(SystemExit) as ended:
        convert.main(list(argv))
    return ended.value.code


def test_there_and_back_with_words_for_each_step(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.main(["few.tsv", "out"])
    said = capsys.readouterr().err
    assert "few.tsv: tsv10, vectors of length 8, labels: unknown (pass --labels)" in said
    assert "6 images, 30 regions" in said
    assert "view the regions: vlray view out" in said
    convert.main(["out", "again.tsv"])
    assert "to import the file again: vlray convert" in capsys.readouterr().err
    assert Path("again.tsv").read_bytes() == source.read_bytes()
    convert.main(["few.tsv", "out"])
    assert "nothing to do: all images (6) are already in out" in capsys.readouterr().err
    assert len(list(Path("runs/default").glob("convert-*/*.log"))) == 3


def test_flags_are_reported_with_counts_and_examples(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchanged = [Image(f"i{n}").tsv10(img_h=640, img_w=480) for n in range(6)]
    convert.main([str(write(Path("exchanged.tsv"), exchanged)), "out"])
    said = capsys.readouterr().err
    assert "image sizes are stored as width, height, contrary to the format; swapping them" in said
    assert "size-order: 6 images: width and height are swapped in the file" in said
    assert open_output("out")["i3"].image_hw.tolist() == [[480, 640]]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["few.tsv", "out", "--format", "tvs"], "--format is 'tvs': choose from tsv10, tsv6"),
        (["few.tsv", "out", "--format", "tsv6"], "few.tsv does not have the format tsv6"),
        (["nothing.tsv", "out"], "nothing.tsv does not exist"),
        (["few.tsv", "few.tsv"], "SOURCE and OUT are both 'few.tsv'"),
        (
            ["few.tsv", "out", "--id-rule", "number"],
            "choose keep, stem, path, key, coco or regex:PATTERN",
        ),
        (["few.tsv", "out", "--labels", "a,b,c"], "pass two text files (objects, attributes)"),
        (["few.tsv", "out", "--labels", "missing.txt"], "--labels missing.txt cannot be read"),
        (["few.tsv", "out", "--images", "nowhere"], "nowhere does not exist"),
        (["few.tsv", "out", "--trust", "yes"], "unknown flag --trust"),
        (["mmf.npys", "out"], "pass --trust-pickle if you trust the source"),
    ],
)
def test_mistakes_end_with_status_2_and_the_way_out(
    argv: list[str], message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("mmf.npys")
    folder.mkdir()
    np.save(folder / "1.npy", np.zeros((2, 8), np.float32))
    np.save(folder / "1_info.npy", np.array({"bbox": np.zeros((2, 4))}, object))
    assert status_of(*argv) == 2
    assert message in capsys.readouterr().err


def test_an_import_without_one_good_image_ends_with_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Path("sizeless.tsv"), [Image("a").tsv10(img_h=0, img_w=0)])
    assert status_of("sizeless.tsv", "out") == 1
    said = capsys.readouterr().err
    assert "no image size for the first 1 image (a, ...)" not in said  # it is 0x0, so it has one
    assert "no size for this image; pass --images FOLDER" in said
    assert "no image could be converted" in said


def test_the_help_shows_examples_and_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--help") == 0
    shown = capsys.readouterr().out
    assert "vlray convert train2014_obj36.tsv regions/ --images coco/train2014" in shown
    assert "import formats, detected from the content: tsv10, tsv6, vinvl" in shown
    assert "vlray convert --formats lists the formats" in shown
    convert.main(["--formats"])
    table = capsys.readouterr().out
    for name, info in FORMATS.items():
        assert f"{name} " in table
        assert f"used by {info.used_by}" in table


def test_the_published_features_are_viewed_with_their_labels(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    butd = shared / "fixtures" / "butd"
    convert.main([str(butd / "train2014_obj36.tsv"), "out", "--images", str(butd)])
    view.main(["out", "--min-score", "0.9"])
    printed = capsys.readouterr()
    assert "10 images, 360 regions, 0 failures, 0 unreadable images" in printed.err
    labels = {line.split()[0] for line in printed.out.splitlines()[1:] if line}
    assert "carrot" in labels
    assert len(list(Path("out/gallery/annotated").glob("*.jpg"))) == 10


def test_photographs_may_turn_up_after_the_import(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    butd = shared / "fixtures" / "butd"
    write(Path("copy.tsv"), [(butd / "train2014_obj36.tsv").read_text()])
    convert.main(["copy.tsv", "out"])
    view.main(["out", "--no-annotated"])
    assert "10 unreadable images" in capsys.readouterr().err
    view.main(["out", "--no-annotated", "--images-root", str(butd)])
    assert "0 unreadable images" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_an_extraction_comes_back_from_a_tsv_as_it_was(photos: Path, grid_detector: str) -> None:
    extract.main([str(photos), "extracted", "--detector.name", grid_detector])
    convert.main(["extracted", "there.tsv"])
    convert.main(["there.tsv", "back", "--images", str(photos)])
    one, other = open_output("extracted"), open_output("back")
    assert one.read(one.image_ids) == other.read(one.image_ids)
    assert (one.obj_names, one.attr_names) == (other.obj_names, other.attr_names)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("argv", "place"),
    [
        (["many.tsv", "{}/out", "--shard-size", "4"], "out"),
        (["ready", "{}/x.h5"], "x.h5"),
        (["ready", "{}/x.tsv"], "x.tsv"),
    ],
)
def test_after_kills_the_same_command_ends_as_if_nothing_had_been(
    argv: list[str], place: str, request: pytest.FixtureRequest
) -> None:
    lines = [Image(f"i{n}", count=20, dim=512).tsv10() for n in range(250)]
    write(Path("many.tsv"), lines)
    convert.main(["many.tsv", "ready"])

    def start(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vlray.convert", *(part.format(folder) for part in argv)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    Path("whole").mkdir()
    convert.main([part.format("whole") for part in argv])
    moment = random.Random(1)
    for attempt in range(request.config.getoption("--kill-rounds")):
        folder = Path(f"killed-{attempt}")
        folder.mkdir()
        process = start(str(folder))
        while not any(folder.iterdir()) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moment.random() * 0.4)
        process.kill()
        process.wait()
        convert.main([part.format(folder) for part in argv])
        assert files_of(folder / place) == files_of(Path("whole") / place)
        assert not list(itertools.chain(folder.rglob(".tmp-*"), folder.glob("*.part")))
