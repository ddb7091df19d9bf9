"""The type of vectors that a file stores as plain bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.formats.written_text import Image, b64, write
from vlray.formats.readers.float_types import float_type
from vlray.formats.readers.protocol import RawRegions
from vlray.formats.readers.tsv import Tsv6Reader, Tsv10Reader
from vlray.formats.readers.vinvl import VinvlReader

RNG = np.random.default_rng(0)
FEATURES = {
    "pooled": np.maximum(RNG.normal(0.3, 1, 4096), 0),
    "signed": RNG.normal(size=4096),
    "small": RNG.random(4096) * 1e-3,
    "sparse": RNG.exponential(1, 4096) * (RNG.random(4096) < 0.1),
    "constant": np.ones(4096),
    "whole": RNG.integers(0, 5, 4096).astype(float),
}


@pytest.mark.parametrize("values", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_types_are_recognized_whatever_the_values(values: np.ndarray, kind: str) -> None:
    assert float_type([values.astype(kind).tobytes()]) == kind
    # The last bits of a mantissa are zero if the values once had less precision.
    if kind != "<f2":
        assert float_type([values.astype("<f2").astype(kind).tobytes()]) == kind


def test_too_few_or_no_values_are_float32() -> None:
    assert float_type([]) == "<f4"
    assert float_type([np.ones(4, "<f8").tobytes()]) == "<f4"
    assert float_type([np.zeros(4096, "<f8").tobytes()]) == "<f4"


@pytest.mark.parametrize("kind", ["<f2", "<f8"])
def test_vinvls_and_oscars_vectors_of_other_types_keep_their_length(
    tmp_path: Path, kind: str
) -> None:
    image = Image("a", (480, 640))
    count = len(image.boxes)
    feats = RNG.random((count, 64)).astype(kind)
    row = json.loads(image.vinvl(["cat"]).partition("\t")[2])
    for item, vector in zip(row["objects"], feats, strict=True):
        item["feature"] = b64(vector, kind)
    lines = [f"a\t{json.dumps(row)}\n"]
    [(_, read)] = VinvlReader(write(tmp_path / "predictions.tsv", lines)).read()
    assert isinstance(read, RawRegions)
    np.testing.assert_array_equal(read.visual_feats, feats)

    boxes = np.tile(np.array([0.25, 0.25, 0.5, 0.75, 0.25, 0.5], kind), (count, 1))
    features = b64(np.concatenate([feats, boxes], 1), kind)
    lines = [f"a\t{json.dumps({'num_boxes': count, 'features': features})}\n"]
    [(_, read)] = VinvlReader(write(tmp_path / "feature.tsv", lines)).read()
    assert isinstance(read, RawRegions)
    np.testing.assert_array_equal(read.visual_feats, feats)
    np.testing.assert_array_equal(read.boxes, boxes[:, :4])


@pytest.mark.parametrize("kind", ["<f2", "<f8"])
def test_tsv_vectors_of_other_types_keep_their_length(tmp_path: Path, kind: str) -> None:
    image = Image("a", (480, 640))
    feats = RNG.random((len(image.boxes), 64)).astype(kind)
    features = b64(feats, kind)
    lines = [image.tsv6(features=features)]
    [(_, read)] = Tsv6Reader(write(tmp_path / "six.tsv", lines)).read()
    assert isinstance(read, RawRegions)
    np.testing.assert_array_equal(read.visual_feats, feats)
    lines = [image.tsv10(features=features)]
    [(_, read)] = Tsv10Reader(write(tmp_path / "ten.tsv", lines)).read()
    assert isinstance(read, RawRegions)
    np.testing.assert_array_equal(read.visual_feats, feats)
