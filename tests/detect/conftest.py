"""Weights of the Visual Genome detector that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from tests.detect.vg_flavours import write_hf
from tests.detect.vg_weights import random_vg_state
from tests.detect.vinvl_weights import random_vinvl_state
from vlray.detect.visual_genome.checkpoint import load_vg


@pytest.fixture(scope="session")
def vg_weights_file(build_once: Callable[..., Path], heavy: None) -> Path:
    """``random_vg_state()`` in the canonical form: 260 MB, written once, not to be changed."""

    def fill(folder: Path) -> None:
        published = write_hf(random_vg_state(), folder / "model.safetensors")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            load_vg(str(published))
        (converted,) = (folder / "cache").rglob("*.safetensors")
        published.unlink()
        converted.rename(folder / "vg.safetensors")

    return build_once("vg", fill) / "vg.safetensors"


@pytest.fixture(scope="session")
def vinvl_state() -> dict[str, Tensor]:
    """Random tensors of a narrow VinVL detector, not to be changed."""
    return random_vinvl_state()
