"""The extract command refuses weights before Ray starts and before anything is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from vlray import extract
try:
    extract.main(sys.argv[1:])
except SystemExit as ended:
    assert "ray" not in sys.modules
    raise
"""


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lite", "contains no weights for lite"),
        ("vg-caffe", "is not a weights file, or it is damaged"),
    ],
)
def test_weights_that_do_not_load_end_with_status_2_and_one_message(
    name: str, message: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "page.bin").write_text("<!DOCTYPE html>")
    flags = ["--name", name, "--weights", "page.bin"]
    command = [sys.executable, "-c", CODE, str(photos), "out", *flags]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("vlray extract: ")
    assert message in last
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()
