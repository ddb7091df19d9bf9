"""Rules that the tests themselves keep."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import deadlines
from tests.deadlines import wait_until

TESTS = Path(__file__).parent


def imports_of_tests(path: Path) -> Iterator[int]:
    """Yield the lines that import a module of tests, or a conftest.py."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        names = [part for module in modules for part in module.split(".")]
        if "tests" in names and any(
            name == "conftest" or name.startswith("test_") for name in names
        ):
            yield node.lineno


def test_no_test_imports_another() -> None:
    found = [f"{path}:{line}" for path in TESTS.rglob("*.py") for line in imports_of_tests(path)]
    assert not found, "move what they share to tests/fixtures/"


def test_an_import_of_a_test_is_found(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(
        "import tests.engine.conftest\n"
        "from tests.engine import test_loop\n"
        "from tests.fixtures.tiny import losses\n"
        "from vlray import test_it\n"
    )
    assert list(imports_of_tests(path)) == [1, 2]


def test_a_quick_test_that_starts_a_process_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="ask for the fixture `processes`"):
        subprocess.run(["true"])


def test_a_busy_machine_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounds(load: float) -> int:
        """Count how often a condition is looked at that never holds."""
        clock = iter(range(1_000))
        monkeypatch.setattr(deadlines.os, "getloadavg", lambda: (load, 0.0, 0.0))
        monkeypatch.setattr(deadlines.time, "monotonic", lambda: float(next(clock)))
        looks: list[None] = []
        with pytest.raises(AssertionError, match="waited for 10 seconds of a quiet machine; why"):
            wait_until(lambda: looks.append(None), 10, every=0, failure=lambda: "why")
        return len(looks)

    cores = os.cpu_count() or 1
    assert rounds(0.5 * cores) == 10
    assert rounds(4.0 * cores) == 40
