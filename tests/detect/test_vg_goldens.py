"""The Visual Genome detector finds what it found when its parity with the peers was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.detect import vg_goldens
from vlray.detect import notebook


@pytest.mark.parametrize("preset", vg_goldens.PRESETS)
def test_regions_are_the_golden_ones(preset: str, vg_weights_file: Path) -> None:
    goldens = json.loads(vg_goldens.FILE.read_text())[preset]
    found = vg_goldens.regions(preset, vg_weights_file)
    notebook._load.cache_clear()
    assert found.keys() == goldens.keys()
    for name, golden in goldens.items():
        one = found[name]
        np.testing.assert_array_equal(one["obj_ids"], golden["obj_ids"])
        np.testing.assert_array_equal(one["attr_ids"], golden["attr_ids"])
        np.testing.assert_allclose(one["boxes"], golden["boxes"], atol=0.02)
        np.testing.assert_allclose(one["obj_probs"], golden["obj_probs"], atol=1e-3)
        np.testing.assert_allclose(one["attr_probs"], golden["attr_probs"], atol=1e-3)
        np.testing.assert_allclose(one["norms"], golden["norms"], rtol=1e-4)
        error = np.abs(one["projections"] - golden["projections"]).max(axis=1)
        assert (error <= 1e-4 * np.array(golden["norms"])).all()
