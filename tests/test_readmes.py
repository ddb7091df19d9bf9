"""The READMEs: commands parse, cheap ones and the Python run, links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.commands import Call
from tests.fixtures.random_outputs import write_output
from tests.fixtures.tiny import write_questions
from vlray import cli, env
from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.steps import resolve
from vlray.settings import state
from vlray.settings.commands import COMMANDS, settings_of
from vlray.settings.reader import read

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for folder in (ROOT, ROOT / "configs", ROOT / "jobs", ROOT / "tests", ROOT / "vlray")
    for path in (folder.glob("README.md") if folder == ROOT else folder.rglob("README.md"))
)
NEEDS_DATA = {Path("vlray/loader/README.md"): "VQA v2's official files"}
"""Pages whose Python is compiled only, and what it would need."""

PARSED_ONLY = {
    r"pip |vlray doctor --fix|vlray demo": "tests/installation/test_wheel.py runs them",
    r"vlray (train|tune|pipeline (?!.*--dry-run))": "trains or searches for minutes",
    r"vlray test": "needs the checkpoint of a training",
    r"vlray extract .*--name (vg-|vinvl|d2:|\S+\.yaml)": "needs the published weights",
    r"vlray datasets score|vlray convert train2014": "needs official files",
    r"(\w+=\S+ )*jobs/|sbatch|ray |export ": "needs a cluster; tests/jobs calls the scripts",
}
"""Commands that are not run here, by their beginnings, and why. All others are run as they are."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in _BLOCK.findall((ROOT / page).read_text("utf-8")):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    for text in blocks(page, "sh", "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    targets = _LINK.findall((ROOT / page).read_text("utf-8"))
    missing = [
        target
        for target in targets
        if "://" not in target and not (ROOT / page.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for words in commands(page):
        while "=" in words[0]:  # a variable in front of a command
            words.pop(0)
        program, *args = words
        if program == "vlray":
            check_vlray(*args)
        elif program == "make":
            assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in args), words
        elif program.startswith("jobs/") or program == "sbatch":
            scripts = [word for word in words if word.startswith("jobs/")]
            assert all((ROOT / script).is_file() for script in scripts), words


def check_vlray(command: str, *args: str) -> None:
    if command == "env":
        given = env._parser().parse_args(args)
        if given.action == "set":
            state.store(given.key, given.value)
            state.remove(given.key)
    elif command not in {"demo", "--version"}:
        assert command in COMMANDS
        config = read(settings_of(command), list(args))
        if isinstance(config, PipelineConfig):
            assert resolve(config)


def is_run(words: list[str]) -> bool:
    return not any(re.match(beginning, " ".join(words)) for beginning in PARSED_ONLY)


RUN = [page for page in PAGES if any(is_run(words) for words in commands(page))]


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("page", RUN, ids=str)
def test_cheap_commands_run(
    page: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VLRAY_CLUSTER__ADDRESS", "none")
    monkeypatch.setenv("VLRAY_DATA__CACHE_DIR", str(tmp_path / "cache"))
    # In the main thread: the warnings of these imports are errors in a test's other threads.
    importlib.import_module("vlray.detect.d2.compat")
    make_world(tmp_path, photos, page)
    for words in filter(is_run, commands(page)):
        args = [word.replace("/data", str(tmp_path / "data")) for word in words[1:]]
        done = call(cli.main, *args)
        assert done.status == 0, f"{' '.join(words)}: {done.err}"


def make_world(folder: Path, photos: Path, page: Path) -> None:
    """Make the files that the commands of the READMEs name."""
    for images in ("photos", "data/vqa_rad/images"):
        (folder / images).mkdir(parents=True)
        for number, name in enumerate(("chelsea.png", "rocket.jpg")):
            shutil.copy(photos / name, folder / images / f"image{number}{Path(name).suffix}")
    write_questions(folder / "questions", images=2, train=4, test=2)
    for name in ("trainset.json", "testset.json"):
        shutil.copy(folder / "questions" / name, folder / "data" / "vqa_rad")
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 60], "score": 0.5}]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    shutil.copytree(ROOT / "configs", folder / "configs")
    if page == Path("vlray/formats/README.md"):  # elsewhere, commands make them
        for output in ("regions", "published"):
            write_output(str(folder / output), ["image0", "image1"], dim=8)
    for text in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", text):
            (folder / name[1]).write_text(text)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("page", [page for page in PAGES if [*blocks(page, "python")]], ids=str)
def test_python_runs(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = compile("\n".join(blocks(page, "python")), str(page), "exec")
    if page in NEEDS_DATA:
        pytest.skip(f"compiled only: running it needs {NEEDS_DATA[page]}")
    request.getfixturevalue("ray_cluster")
    photos = request.getfixturevalue("photos")
    monkeypatch.chdir(tmp_path)
    for text in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", text):  # a file that later blocks name
            (tmp_path / name[1]).write_text(text)
    (tmp_path / "photos").mkdir()
    for name in ("chelsea.png", "rocket.jpg"):
        shutil.copy(photos / name, tmp_path / "photos")
    import vlray

    if page != Path("vlray/README.md"):
        vlray.extract("photos/", "regions/")
    exec(code, {})
