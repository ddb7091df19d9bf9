"""Every shell script and Dockerfile passes its linter, and each script says how it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SCRIPTS = sorted(
    path
    for path in [*(ROOT / "jobs").iterdir(), *(ROOT / ".ci").iterdir()]
    if path.is_file() and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"# shellcheck"))
)


def check(linter: str, *arguments: str | Path) -> None:
    program = BIN / linter
    if not program.exists():
        pytest.skip(f"{linter} is not installed beside Python; make install-dev brings it")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    check("shellcheck", "--external-sources", path)


@pytest.mark.usefixtures("processes")
def test_hadolint_finds_nothing() -> None:
    check("hadolint", *sorted((ROOT / "docker").glob("Dockerfile*")))


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("script", "arguments", "usage"),
    [
        ("extract.sh", ["photos"], "IMAGES OUT [options of vlray extract]"),
        ("train.sh", ["vqa:train", "regions"], "DATA REGIONS OUT [options of vlray train]"),
        ("test.sh", ["--gpus"], "CHECKPOINT DATA [REGIONS] [options of vlray test]"),
        (
            "tune.sh",
            ["sweep", "--search", "grid", "--", "extract"],
            "OUT [options of vlray tune] -- extract IMAGES | train DATA REGIONS [its options]",
        ),
        ("pipeline.sh", [], "FILE.yaml OUT [options of vlray pipeline]"),
    ],
)
def test_a_script_called_wrongly_says_how(script: str, arguments: list[str], usage: str) -> None:
    done = subprocess.run([ROOT / "jobs" / script, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"usage: {script} {usage}\n")
