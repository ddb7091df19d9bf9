"""A dataset of the tests' own: its layout in a Python file, its examples as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

LAYOUT = """
import json

from vlray.tasks.example import Answers, Example

ROLES = {"lines": "required", "more": "optional"}


def read(files, problems, options):
    for path in (*files["lines"], *files.get("more", ())):
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    problems.add("broken-line", f"line {number}: {error}")
                    continue
                label = Answers((entry["answer"],)) if "answer" in entry else None
                yield Example(entry["id"], entry["text"], tuple(entry["images"]), label, options)
"""


@pytest.fixture
def lines_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset ``mine`` with the splits train and test; give its YAML file."""

    def write(train: list[object], **changed: object) -> Path:
        (tmp_path / "layout.py").write_text(LAYOUT)
        text = [line if isinstance(line, str) else json.dumps(line) for line in train]
        (tmp_path / "train.jsonl").write_text("\n".join(text))
        spec = {
            "name": "mine",
            "title": "Lines of my own",
            "purposes": ["question answering"],
            "layout": f"{tmp_path / 'layout.py'}:read",
            "image_set": "photos",
            "labels": "answers",
            "metric": "exact match",
            "splits": {
                "train": {"files": {"lines": "train.jsonl"}},
                "test": {
                    "files": {"lines": "official/test.jsonl"},
                    "download": ["https://example.org/test.zip"],
                },
            },
        }
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(spec | changed, sort_keys=False))
        return file

    return write
