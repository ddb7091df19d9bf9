"""Which images an output takes in, and how it is read in a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.random_outputs import write_output
from vlray.regions.claim import claim
from vlray.regions.output import open_output
from vlray.storage import files


def identity(dataset: str, **settings: Any) -> dict[str, Any]:
    return {"schema_version": 1, "dataset": dataset, "detector": {}, "settings": settings}


def test_a_second_folder_of_images_names_the_option_that_adds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, root = files.resolve(str(tmp_path))
    claim(fs, root, "out", identity("my photos", size=1))
    monkeypatch.setattr("vlray.regions.claim._has_rows", lambda *_: True)
    with pytest.raises(ValueError, match=r"\nPass --dataset 'my photos' to add these images"):
        claim(fs, root, "out", identity("other", size=1))
    with pytest.raises(ValueError, match="Use the same settings") as caught:
        claim(fs, root, "out", identity("other", size=2))
    assert "--dataset" not in str(caught.value)


def test_an_output_is_iterated_by_its_ids(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    output = open_output(write_output(str(tmp_path / "out"), ids, dim=4))
    assert list(output) == ids
    assert [len(output[image_id].boxes) for image_id in output]
