"""jobs/python.sh: a job's packages, here cut down to one that needs no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("processes")
def test_python_of_a_job_is_made_once_and_found_again(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed beside Python; make install-dev brings it")
    checkout = tmp_path / "checkout"
    for name in ("jobs/python.sh", "pyproject.toml"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    (checkout / "docker").mkdir()
    (checkout / "docker" / "requirements.txt").write_text("idna==3.11\n")
    environment = os.environ | {
        "VLRAY_ENVS": str(tmp_path / "envs"),
        "PATH": f"{uv.parent}:{os.environ['PATH']}",
    }
    said = []
    for _ in range(2):
        command = ["bash", checkout / "jobs" / "python.sh", "-c", "import sys; print(sys.prefix)"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if "error: Failed to fetch" in done.stderr:
            pytest.skip("uv reaches no package index")
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said[0] == said[1]
    (made,) = [path for path in (tmp_path / "envs").iterdir() if path.is_dir()]
    assert Path(said[0]) == made
    assert list(made.glob("lib/python3*/site-packages/idna-*"))

    (checkout / "docker" / "requirements.txt").write_text("nothing-of-this-name-vlray==1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert not [path for path in (tmp_path / "envs").glob("*/ready") if path.parent != made]
