"""The doctor and configs commands: what they print, write and install, and their status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.commands import Call
from vlray import configs, doctor
from vlray.installation import command, detectron2
from vlray.installation.checks import Check
from vlray.runs.session import Failed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_problem_has_a_way_out_and_status_1(call: Call, monkeypatch) -> None:
    found = [Check("Ray", "ok", "2.60.0"), Check("Detectron2", "problem", "missing", "do this")]
    monkeypatch.setattr(command, "run_checks", lambda config: found)
    status, out, err = call(doctor.main)
    assert status == 1
    assert out.splitlines() == [
        "ok       Ray          2.60.0",
        "problem  Detectron2   missing",
        "                      -> do this",
    ]
    assert err == "vlray doctor: fix Detectron2, as the lines above say\n"
    found.pop()
    assert call(doctor.main)[::2] == (0, "")


@pytest.mark.parametrize("is_complete", [True, False])
def test_only_what_is_missing_is_installed(call: Call, monkeypatch, is_complete) -> None:
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(command, "run_checks", lambda config: [])
    monkeypatch.setattr(detectron2, "is_complete", lambda: is_complete)
    monkeypatch.setattr(detectron2, "find_spec", lambda name: None)
    monkeypatch.setattr(detectron2, "_uv", lambda *arguments: installed.append(arguments))
    call(doctor.main)
    assert not installed
    call(doctor.main, "--fix")
    assert [arguments[-1] for arguments in installed] == (
        []
        if is_complete
        else [detectron2.BuildSettings.read().requirements[-1], "pb1-detectron2==0.6"]
    )


def test_an_installation_that_fails_says_what_it_needs(call: Call, monkeypatch) -> None:
    monkeypatch.setattr(detectron2, "is_complete", lambda: False)

    class Result:
        returncode = 2

    commands = []

    def run(arguments: list[str], cwd: str, check: bool) -> Result:
        commands.append(arguments)
        assert cwd != str(Path.cwd())  # whose pyproject.toml uv would read
        return Result()

    monkeypatch.setattr(detectron2.subprocess, "run", run)
    status, out, err = call(doctor.main, "--fix")
    assert (status, out) == (1, "")
    assert "UV_DEFAULT_INDEX" in err
    assert len(commands) == 1
    with pytest.raises(Failed, match="its reason is above"):
        detectron2.install()


def test_the_configuration_files_are_listed_and_copied(call: Call, tmp_path) -> None:
    status, out, _ = call(configs.main)
    assert status == 0
    assert "view/sure.yaml" in out
    assert "A quick look: regions with a score of at least 0.6" in out
    assert call(configs.main, "copy") == (0, f"{len(out.splitlines())} files are in configs\n", "")
    original = Path(__file__).parents[2] / "configs"
    copies = {path.relative_to("configs") for path in Path("configs").rglob("*.yaml")}
    assert copies == {path.relative_to(original) for path in original.rglob("*.yaml")}
    mine = Path("configs/view/sure.yaml")
    mine.write_text("min_score: 0.7\n")
    assert "kept, because they were changed there: view/sure.yaml" in call(configs.main, "copy")[1]
    assert mine.read_text() == "min_score: 0.7\n"
    assert call(configs.main, "copy", "configs/train/", "other")[0] == 0
    assert {path.name for path in Path("other").iterdir()} == {"train"}
    status, _, err = call(configs.main, "copy", "view/sur.yaml")
    assert status == 2
    assert "did you mean view/sure.yaml?" in err
