"""Docstrings begin as those of PyTorch and Ray do (ruff's D401 checks the imperative mood)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vlray

PACKAGE = Path(vlray.__file__).parent
FORBIDDEN = ("Give", "Gives", "Say", "Says", "Tell", "Tells")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_no_docstring_begins_with_give_say_or_tell(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    texts = [
        text
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and (text := ast.get_docstring(node))
    ]
    assert not [text for text in texts if text.split(maxsplit=1)[0] in FORBIDDEN]
