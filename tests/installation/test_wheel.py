"""The wheel, in an empty environment outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Path]:
    """Create an empty virtual environment, and remove it afterwards, because it is large."""
    folder = tmp_path / "environment"
    uv("venv", "--quiet", "--python", sys.executable, folder)
    yield folder
    shutil.rmtree(folder)


def uv(*arguments: object, cwd: Path | None = None) -> str:
    return run(find_uv_bin(), *arguments, cwd=cwd)


def run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    ended = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{words}:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.mark.wheel
@pytest.mark.usefixtures("processes")
def test_the_demo_runs_from_the_wheel_after_doctor_fix(environment: Path, tmp_path: Path) -> None:
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("vlray-*.whl")
    # The versions of this environment, whose files uv links from its cache.
    frozen = uv("pip", "freeze", "--quiet", "--exclude-editable", "--python", sys.executable)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in frozen.splitlines() if "==" in line))
    python = environment / "bin" / "python"
    flags = ("--quiet", "--python", python, "--constraint", constraints)
    uv("pip", "install", *flags, wheel, cwd=tmp_path)
    vlray = environment / "bin" / "vlray"
    assert "problem" not in run(vlray, "doctor", "--fix", cwd=tmp_path)
    run(vlray, "configs", "copy", cwd=tmp_path)
    assert (tmp_path / "configs" / "view" / "sure.yaml").is_file()
    run(vlray, "demo", cwd=tmp_path)
    assert (tmp_path / "demo" / "regions" / "gallery" / "index.html").is_file()
