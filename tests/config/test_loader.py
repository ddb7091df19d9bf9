"""What the user says of batches, and what the model wants where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.loader import LoaderSection, ModelLoaderSection, PretrainingSection
from vlray.config.train import TrainConfig
from vlray.settings.reader import from_cli

ARGS = ["coco-captions:train2017", "regions", "out"]
TWO = PretrainingSection(sentences="two", region_rate=0)


def test_what_is_not_given_is_as_the_model_wants_it() -> None:
    assert ModelLoaderSection().settled() == LoaderSection()
    wanted = LoaderSection(boxes="none", max_tokens=128, template="{text} ?", pretraining=TWO)
    assert ModelLoaderSection().settled(**dict(wanted)) == wanted


def test_one_option_of_pretraining_leaves_the_others_as_the_model_wants_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("loader: {pretraining: {sentences: own}, max_tokens: 30}")
    for given in (
        ["--config", str(file)],
        ["--loader.pretraining.sentences", "own", "--max-tokens", "30"],
    ):
        settled = from_cli(TrainConfig, [*ARGS, *given]).loader.settled(
            max_tokens=128, pretraining=TWO
        )
        assert settled.pretraining == TWO.model_copy(update={"sentences": "own"})
        assert settled.max_tokens == 30


def test_shares_that_are_more_than_everything_are_refused_together_with_the_models() -> None:
    config = from_cli(TrainConfig, [*ARGS, "--loader.pretraining.hidden", "0.95"])
    with pytest.raises(ValueError, match=r"hidden=0\.95 and swapped=0\.1 sum to more than 1"):
        config.loader.settled(pretraining=TWO)
