"""Retrieval sees every text with every image, exactly once, as training would show the pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vlray.config.loader import LoaderSection
from vlray.loader import Collate, RegionDataset, open_store
from vlray.loader.pairs import PairLoader
from vlray.regions.store import RegionStore
from vlray.tasks.corpus import Corpus
from vlray.tasks.examples import ExampleTable

MakeTable = Callable[..., ExampleTable]
MakeCorpus = Callable[..., Corpus]
NUMBERS = [3, 9, 3, 17, 0, 9, 28, 5, 77, 17]  # 77 has no regions


@pytest.fixture
def store(regions: str, tmp_path: Path) -> RegionStore:
    return open_store(regions, tmp_path)


@pytest.mark.parametrize("options", [LoaderSection(), LoaderSection(boxes="none", visual="none")])
def test_every_pair_comes_once_as_it_would_in_training(
    table: MakeTable, corpus_of: MakeCorpus, store: RegionStore, options: LoaderSection
) -> None:
    corpus = corpus_of(table("one", [(str(number),) for number in NUMBERS]))
    collate = Collate(options)
    loader = PairLoader(RegionDataset(corpus, store, collate), 8, block=4)
    batches = list(loader)
    assert len(batches) == len(loader) == 5 + 3  # 4 images, then 2, with 9 texts
    seen = [pair for batch in batches for pair in zip(batch.texts, batch.images, strict=True)]
    assert sorted(seen) == [(text, image) for text in range(9) for image in range(6)]
    usable = [number for number in NUMBERS if number != 77]
    assert [loader.image_ids[number] for number in loader.own] == list(map(str, usable))
    examples = [example for example in corpus.take(np.arange(10)) if example.image_ids != ("77",)]
    for batch in batches:
        assert batch.inputs.example_ids == tuple(examples[i].example_id for i in batch.texts)
        assert batch.inputs.image_ids == tuple((loader.image_ids[i],) for i in batch.images)
        rows = store.rows([loader.image_ids[i] for i in batch.images])
        wanted = collate(
            [examples[i] for i in batch.texts], rows, store, None, np.random.default_rng(0)
        )
        regions = wanted.visual_feats.shape[1]
        torch.testing.assert_close(batch.inputs.input_ids, wanted.input_ids)
        torch.testing.assert_close(batch.inputs.attention_mask, wanted.attention_mask)
        feats, mask = batch.inputs.visual_feats, batch.inputs.visual_attention_mask
        torch.testing.assert_close(feats[:, :regions], wanted.visual_feats)
        torch.testing.assert_close(mask[:, :regions], wanted.visual_attention_mask)
        assert not mask[:, regions:].any()
        assert (batch.inputs.visual_pos is None) == (options.boxes == "none")


def test_workers_have_other_images_and_all_texts(
    table: MakeTable, corpus_of: MakeCorpus, store: RegionStore
) -> None:
    corpus = corpus_of(table("one", [(str(number),) for number in NUMBERS]))
    dataset = RegionDataset(corpus, store, Collate(LoaderSection(fixed_tokens=True)))
    found = []
    for rank in range(4):
        for batch in PairLoader(dataset, 50, rank=rank, world=4):
            assert batch.inputs.input_ids.shape[1] == 20
            found += zip(batch.texts.tolist(), batch.images.tolist(), strict=True)
    assert sorted(found) == [(text, image) for text in range(9) for image in range(6)]


def test_pairs_of_pairs_are_refused(
    table: MakeTable, corpus_of: MakeCorpus, store: RegionStore
) -> None:
    dataset = RegionDataset(corpus_of(table("two", [("1", "2"), ("3", "4")])), store, Collate())
    with pytest.raises(ValueError, match=r"two:train have 2 images each.* one image each"):
        PairLoader(dataset)
