"""``vg-caffe``'s proposals with the probabilities of all classes, collected by an extraction."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.collected import config, directly, read, same_regions
from vlray.tuning.collect import collect


@pytest.mark.thorough
def test_vg_caffe_is_selected_by_the_probabilities_of_all_classes(
    photos: Path,
    tmp_path: Path,
    ray_cluster: str,
    vg_weights_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given: dict[str, Any] = {
        "name": "vg-caffe",
        "weights": str(vg_weights_file),
        "min_size": 96,
        "max_size": 150,
        "post_nms_topk": 30,
    }
    image = photos / "coffee.png"
    given |= {"score_thresh": 0.1, "min_boxes": 2, "max_boxes": 12, "nms_thresh": 0.25}
    settings = config(image, tmp_path / "direct", **given)
    direct = directly(settings)
    candidates = collect(settings, tmp_path / "collected", with_feats=True)
    found = pickle.loads(pickle.dumps(candidates)).select(settings.detector)
    same_regions(candidates, found, direct)
    assert 2 <= len(found) <= 12
    candidates.write(found, settings, str(tmp_path / "written"))
    written = read(str(tmp_path / "written"))
    # Attributes of all proposals are computed together: their last digits may differ.
    probs = [
        table["attr_probs"].combine_chunks().flatten().to_numpy() for table in (written, direct)
    ]
    np.testing.assert_allclose(*probs, rtol=1e-4)
    assert written.drop(["attr_probs"]).equals(direct.drop(["attr_probs"]))
    assert written.schema.metadata == direct.schema.metadata
