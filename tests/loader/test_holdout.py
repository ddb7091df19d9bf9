"""What is held out is the same examples each time, whole images, and none of what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.loader import Collate, RegionDataset, RegionLoader, open_store
from vlray.loader.holdout import split_holdout
from vlray.tasks.corpus import Corpus
from vlray.tasks.examples import ExampleTable

MakeTable = Callable[..., ExampleTable]
MakeCorpus = Callable[..., Corpus]
NUMBERS = np.random.default_rng(3).integers(0, 40, 200).tolist()


@pytest.fixture
def dataset(regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path) -> RegionDataset:
    """Two parts of 203 and 30 examples on 40 images; three examples have no regions."""
    one = [*NUMBERS[:100], "77", "78", *NUMBERS[100:], "79"]
    corpus = corpus_of(
        table("one", [(str(number),) for number in one]),
        table("two", [(str(number),) for number in range(30)]),
    )
    return RegionDataset(corpus, open_store(regions, tmp_path), Collate())


def ids(dataset: RegionDataset) -> list[tuple[str, str]]:
    """Example and image of everything that an evaluation goes through."""
    return [
        (example, images[0])
        for batch in RegionLoader(dataset, 16, shuffle=False)
        for example, images in zip(batch.example_ids, batch.image_ids, strict=True)
    ]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_all_examples_of_an_image_are_on_one_side(dataset: RegionDataset, share: float) -> None:
    train, held = split_holdout(dataset, share)
    assert abs(len(held) / len(dataset) - share) < 0.03
    assert sorted(ids(train) + ids(held)) == sorted(ids(dataset))
    assert not {image for _, image in ids(train)} & {image for _, image in ids(held)}
    assert ids(split_holdout(dataset, share)[1]) == ids(held)
    # More is held out by adding to it: figures of two shares are of related images.
    assert set(ids(split_holdout(dataset, share + 0.1)[1])) > set(ids(held))


def test_examples_can_be_held_out_one_by_one(dataset: RegionDataset) -> None:
    train, held = split_holdout(dataset, 0.1, "example")
    assert len(held) == round(0.1 * len(dataset))
    assert sorted(ids(train) + ids(held)) == sorted(ids(dataset))
    assert {image for _, image in ids(train)} & {image for _, image in ids(held)}


def test_one_group_at_least_stays_on_each_side(dataset: RegionDataset) -> None:
    assert len({image for _, image in ids(split_holdout(dataset, 0.0001)[1])}) == 1
    assert len({image for _, image in ids(split_holdout(dataset, 0.9999)[0])}) == 1
    first = dataset.subset(np.arange(1))
    with pytest.raises(ValueError, match="one:train,two:train has examples of a single image"):
        split_holdout(first, 0.1)
    with pytest.raises(ValueError, match=r"a share of 1 cannot be held out"):
        split_holdout(dataset, 1)


def test_a_part_is_trained_on_and_resumed_like_a_whole(dataset: RegionDataset) -> None:
    train, held = split_holdout(dataset, 0.3)
    loader = RegionLoader(train, 8, seed=5)
    epoch = [batch.example_ids for batch in loader]
    again = RegionLoader(train, 8, seed=5)
    steps = iter(again)
    for _ in range(4):
        next(steps)
    state = again.state_dict()
    resumed = RegionLoader(train, 8, seed=5)
    resumed.load_state_dict(state)
    assert [batch.example_ids for batch in resumed] == epoch[4:]
    with pytest.raises(ValueError, match="state is of a loader with examples"):
        RegionLoader(held, 8, seed=5).load_state_dict(state)


@pytest.mark.parametrize("sentences", ["one", "two"])
def test_texts_that_are_held_out_are_not_drawn_in_training(
    regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path, sentences: str
) -> None:
    options = PretrainingSection.model_validate({"sentences": sentences, "unmatched": 0.8})
    collate = Collate(LoaderSection(max_tokens=32, pretraining=options))
    corpus = corpus_of(table("one", [(str(number % 40),) for number in range(120)]))
    whole = RegionDataset(corpus, open_store(regions, tmp_path), collate)
    for part in split_holdout(whole, 0.4):
        own = {name.removeprefix("one-") for name, _ in ids(part)}
        seen = set()
        for batch in RegionLoader(part, 8, shuffle=False):
            assert batch.pretraining is not None
            labels = batch.pretraining.mlm_labels
            whole_ids = np.where(labels >= 0, labels, batch.input_ids)
            for row in whole_ids:
                seen |= {word for word in collate.tokenizer.tokens(row) if word.isdigit()}
        assert seen <= own
        assert len(seen) > 20
