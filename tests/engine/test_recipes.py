"""The published recipes of configs/train on tiny data in the official layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.official import write_official
from tests.fixtures.tiny import losses
from vlray.config.train import TrainConfig
from vlray.engine.work import work
from vlray.installation.configs import shipped
from vlray.settings.reader import from_cli

RECIPES = {
    name: path
    for name, path in shipped().items()
    if name.startswith(("train/lxmert-", "train/visualbert-", "train/volta-"))
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "is", "photo", "man", "number", "?")
SIZES = f"vocab_size={len(WORDS)},hidden_size=16,num_attention_heads=2,intermediate_size=16"
LAYERS = {"lxmert": "l_layers=1,x_layers=1,r_layers=1", "visualbert": "num_hidden_layers=1"}
STEPS = 10


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    write_official(folder)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_data_in_the_official_layout(
    name: str, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlray.engine.watch.draw", lambda *_: None)  # curves, half of the time
    path = RECIPES[name]
    model = "visualbert" if "visualbert" in name else "lxmert"
    config = from_cli(
        TrainConfig,
        [
            *("--config", str(path), "--regions", str(official / "regions")),
            *("--output", str(tmp_path / "out"), "--data.root", str(official)),
            *("--data.cache-dir", str(official / "cache"), "--no-tensorboard"),
            *("--model.name", model, "--model.weights", ""),
            *("--model.architecture", f"{SIZES},{LAYERS[model]}"),
            *("--batch-size", "4", "--steps", str(STEPS), "--log-every", "1"),
            *("--loader.max-tokens", "16", "--loader.tokenizer", str(official / "vocab.txt")),
            *("--evaluate-every", str(STEPS), "--patience", "0"),
        ],
    )
    progress = work(config, tmp_path / "run")
    assert (progress.step, len(losses(tmp_path / "run"))) == (STEPS, STEPS)
    assert progress.metrics


def test_each_recipe_tells_its_source_figures_and_machines() -> None:
    assert len(RECIPES) >= 20
    for name, path in RECIPES.items():
        head = path.read_text().partition("\ncorpus:")[0]
        stem = Path(name).stem
        for part in ("Source: ", "Published: ", "One GPU: ", "DGX: ", f"configs/train/{stem}.yaml"):
            assert part in head, (name, part)
