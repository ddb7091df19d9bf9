"""Documents that would crash the JSON parser, or exhaust the memory, are refused before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlray.tasks.layouts import documents
from vlray.tasks.layouts.json_text import MAX_DEPTH
from vlray.tasks.problems import Problems


def read(path: Path, content: str) -> list[dict[str, object]]:
    path.write_text(content)
    return list(documents.items(str(path), "item", Problems()))


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a":['])
def test_deep_nesting_is_refused(opening: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json nests lists and objects more than 200 deep"):
        read(tmp_path / "a.json", "[" + opening * 50_000)


@pytest.mark.parametrize("digits", [5_001, 200_000])
def test_a_number_of_thousands_of_digits_is_refused(digits: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json has a number with 1,000 or more digits"):
        read(tmp_path / "a.json", '[{"a": ' + "1" * digits + "}]")


def test_brackets_and_digits_in_texts_do_not_count(tmp_path: Path) -> None:
    entries = [{"a": "[{" * 500 + '\\ " [', "b": "1" * 6_000}] * 50
    assert read(tmp_path / "a.json", json.dumps(entries)) == entries


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    depth = MAX_DEPTH - 2
    (entry,) = read(tmp_path / "a.json", '[{"a": ' + "[" * depth + "]" * depth + "}]")
    assert json.dumps(entry["a"]).count("[") == depth
