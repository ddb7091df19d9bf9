from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.formats.written_text import Image, b64, write
from vlray.formats.labels import read_labels
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.vinvl import VinvlReader

IMAGE = Image("7", (480, 640), 4)


def read(path: Path, *lines: str) -> list[RawRegions | Unreadable]:
    return [item for _, item in VinvlReader(write(path / "predictions.tsv", lines)).read()]


def test_words_scores_and_the_best_attribute_are_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, IMAGE.vinvl(["cat", "dog"], ["old", "red", "wet"]))
    assert isinstance(row, RawRegions)
    assert row.obj_names == ("cat", "dog", "cat", "dog")
    assert row.attr_names == ("red",) * 4
    np.testing.assert_allclose(row.attr_probs, [0.7] * 4)
    np.testing.assert_array_equal(row.visual_feats, IMAGE.feats)
    np.testing.assert_allclose(row.boxes, IMAGE.boxes, rtol=1e-6)
    assert row.image_hw is None


def test_without_features_there_are_still_boxes_and_words(tmp_path: Path) -> None:
    row = json.loads(IMAGE.vinvl(["cat"]).partition("\t")[2])
    for item in row["objects"]:
        del item["feature"]
    (found,) = read(tmp_path, f"7\t{json.dumps(row['objects'])}\n")  # the list alone, as of old
    assert isinstance(found, RawRegions)
    assert found.visual_feats.shape == (4, 0)
    assert found.remarks == ("no-features",)


def test_oscars_vectors_end_with_their_boxes(tmp_path: Path) -> None:
    fractions = IMAGE.boxes / np.float32([640, 480, 640, 480])
    sides = fractions[:, 2:] - fractions[:, :2]
    values = np.concatenate([np.ones((4, 2048)), fractions, sides], 1)
    line = json.dumps({"num_boxes": 4, "features": b64(values, "<f4")})
    (row,) = read(tmp_path, f"7\t{line}\n")
    assert isinstance(row, RawRegions)
    assert row.visual_feats.shape == (4, 2048)
    np.testing.assert_array_equal(row.boxes, fractions)
    assert row.remarks == ("normalized-boxes",)


def test_vinvls_published_features_have_three_columns(tmp_path: Path) -> None:
    fractions = IMAGE.boxes / np.float32([640, 480, 640, 480])
    values = np.concatenate([np.ones((4, 8)), fractions, fractions[:, 2:] - fractions[:, :2]], 1)
    (row,) = read(tmp_path, f"7\t4\t{b64(values, '<f4')}\n")
    assert isinstance(row, RawRegions)
    assert row.visual_feats.shape == (4, 8)
    np.testing.assert_array_equal(row.boxes, fractions)


def test_vinvls_label_map_gives_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"label_to_idx": {"dog": 2, "cat": 1}, "attribute_to_idx": {"old": 1}}')
    labels = read_labels([str(path)])
    assert (labels.objects, labels.attributes) == (("cat", "dog"), ("old",))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("8\t{broken\n", "the JSON is invalid"),
        ('8\t{"a": 1}\n', "neither objects, nor num_boxes and features"),
        ('8\t{"objects": [{"class": "cat"}]}\n', "'rect'"),
        ('8\t{"num_boxes": 3, "features": "AAAA"}\n', "3 bytes, which is not a multiple of 3"),
        ("no tab\n", "must be a key, a tab and JSON"),
    ],
)
def test_a_damaged_line_spoils_itself_only(line: str, reason: str, tmp_path: Path) -> None:
    good = IMAGE.vinvl(["cat"])
    rows = read(tmp_path, good, line, good)
    assert [isinstance(row, RawRegions) for row in rows] == [True, False, True]
    assert isinstance(rows[1], Unreadable)
    assert reason in rows[1].reason
