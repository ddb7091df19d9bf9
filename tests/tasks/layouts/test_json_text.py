"""JSON that other programs write: byte order marks, NaN, other encodings, documents cut off."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.tasks.layouts.documents import entries, items, json_lines
from vlray.tasks.layouts.json_text import JsonText
from vlray.tasks.problems import Problems

# Text that looks like a constant, a string's end or an escape sequence.
PIECES = [*'",:[]{}\\ -abx', "NaN", "-Infinity", "\u00e9"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
VALUES = st.recursive(
    st.none() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def without_constants(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [without_constants(one) for one in value]
    if isinstance(value, dict):
        return {key: without_constants(one) for key, one in value.items()}
    return value


@given(value=VALUES, size=st.integers(1, 40), escaped=st.booleans())
def test_constants_become_null_and_text_stays(value: Any, size: int, escaped: bool) -> None:
    content = json.dumps(value, ensure_ascii=escaped).encode()
    text = JsonText(io.BytesIO(content), "a.json")
    read = b"".join(iter(lambda: text.read(size), b""))
    assert json.loads(read, parse_constant=pytest.fail) == without_constants(value)


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_documents_with_a_byte_order_mark_or_nan_are_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", b'\xef\xbb\xbf[{"a": 1}, {"a": NaN}, {"a": "NaN, NaN"}]')
    problems = Problems()
    assert list(items(path, "item", problems)) == [{"a": 1}, {"a": None}, {"a": "NaN, NaN"}]
    path = written(tmp_path / "b.json", b'\xef\xbb\xbf{"q": {"a": -Infinity}}')
    assert list(entries(path, "", problems)) == [("q", {"a": None})]
    path = written(tmp_path / "c.jsonl", b'\xef\xbb\xbf{"a": NaN}\n{"a": 2}')
    assert list(json_lines(path, problems)) == [{"a": None}, {"a": 2}]
    assert not problems


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", '[{"a": 1}]'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"a\.json is in UTF-16; convert it to UTF-8: iconv -f"):
        list(items(path, "item", Problems()))
    problems = Problems()
    path = written(tmp_path / "b.json", '[{"a": 1}, {"a": "caf\u00e9"}]'.encode("latin1"))
    assert list(items(path, "item", problems)) == [{"a": 1}]
    [message] = problems.examples["cut-off"]
    assert message.startswith("b.json breaks off after 1 entries: a byte there is not UTF-8; conv")


def test_a_last_line_without_its_end_is_a_file_that_is_cut_off(tmp_path: Path) -> None:
    problems = Problems()
    path = written(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": \n{"a": 2}\n{"a"')
    assert list(json_lines(path, problems)) == [{"a": 1}, {"a": 2}]
    assert problems.counts == {"broken-line": 1, "cut-off": 1}
    problems = Problems()
    deep = b"[" * 100_000
    path = written(tmp_path / "b.jsonl", b'{"a": 1}\n' + deep + b"\n")
    assert list(json_lines(path, problems)) == [{"a": 1}]
    assert "nested too deeply" in problems.examples["broken-line"][0]
