"""Examples are joined with the regions of their own images, or named where they have none."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vlray.loader import Collate, RegionDataset, RegionLoader, open_store
from vlray.loader.inputs import ModelInputs
from vlray.regions.provenance import provenance_of
from vlray.tasks.corpus import Corpus
from vlray.tasks.examples import ExampleTable
from vlray.tasks.problems import DataError

MakeTable = Callable[..., ExampleTable]
MakeCorpus = Callable[..., Corpus]


def images(*numbers: int) -> list[tuple[str, ...]]:
    return [(str(number),) for number in numbers]


def equal(one: ModelInputs, other: ModelInputs) -> bool:
    return one.example_ids == other.example_ids and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("input_ids", "visual_feats", "visual_pos", "targets")
    )


def test_every_example_gets_the_regions_of_its_own_image(
    regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, 60).tolist()
    corpus = corpus_of(table("one", images(*numbers)))
    dataset = RegionDataset(corpus, open_store(regions, tmp_path), Collate())
    batch = dataset.batch(np.arange(60)[::-1], np.random.default_rng(0))
    assert batch.image_ids == tuple(images(*numbers[::-1]))
    assert batch.visual_feats[:, 0, 0].tolist() == numbers[::-1]
    assert batch.visual_attention_mask.sum(1).tolist() == [n % 4 + 1 for n in numbers[::-1]]
    assert batch.label_ids is not None
    assert batch.label_ids.tolist() == [int(i % 3 > 0) for i in range(60)][::-1]


def test_examples_of_images_without_regions_are_counted_and_left_out(
    regions: str,
    table: MakeTable,
    corpus_of: MakeCorpus,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    corpus = corpus_of(table("one", images(1, 77, 2, 78, 79, 80, 3)), table("two", images(4, 99)))
    store = open_store(regions, tmp_path)
    with caplog.at_level(logging.WARNING):
        dataset = RegionDataset(corpus, store, Collate())
    assert len(dataset) == 4
    batch = dataset.batch(np.arange(4), np.random.default_rng(0))
    assert batch.example_ids == ("one-0", "one-2", "one-6", "two-0")
    assert batch.visual_feats[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert "one:train: 4 examples with an image that has no regions" in caplog.text
    assert "one-1 (image 77); one-3 (image 78); one-4 (image 79)" in caplog.text
    assert "two:train: 1 example with" in caplog.text
    with pytest.raises(DataError, match=r"one:train: 4 .*\n.*two:train: 1 "):
        RegionDataset(corpus, store, Collate(), on_bad="stop")


def test_a_corpus_whose_ids_are_others_than_the_outputs_is_refused(
    regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path
) -> None:
    corpus = corpus_of(table("one", [("000000000001",)]))
    with pytest.raises(ValueError, match=r"none of the 1 examples .* 000000000001.*--id-rule"):
        RegionDataset(corpus, open_store(regions, tmp_path), Collate())


def test_pairs_of_images_need_both(
    regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path
) -> None:
    corpus = corpus_of(table("pairs", [("1", "2"), ("3", "77"), ("5", "4")]))
    dataset = RegionDataset(corpus, open_store(regions, tmp_path), Collate())
    batch = dataset.batch(np.arange(2), np.random.default_rng(0))
    assert batch.example_ids == ("pairs-0", "pairs-2")
    assert batch.visual_feats[:, :, 0, 0].tolist() == [[1, 2], [5, 4]]


def test_outputs_by_name_are_never_mixed_in_a_batch(
    regions: str,
    write_regions: Callable[..., str],
    table: MakeTable,
    corpus_of: MakeCorpus,
    tmp_path: Path,
) -> None:
    fpn = write_regions(str(tmp_path / "fpn"), [str(n) for n in range(40)], dim=6)
    tables = table("one", images(*range(30))), table("two", [(str(i), "0") for i in range(20)])
    corpus = corpus_of(*tables, parts="one:train@vg,two:train@fpn")
    stores = {"vg": open_store(regions, tmp_path), "fpn": open_store(fpn, tmp_path)}
    dataset = RegionDataset(corpus, stores, Collate())
    batches = list(RegionLoader(dataset, 10))
    assert sorted(batch.regions for batch in batches) == ["fpn"] * 2 + ["vg"] * 3
    for batch in batches:
        assert batch.visual_feats.shape[-1] == {"vg": 8, "fpn": 6}[batch.regions]
        assert (batch.visual_feats.ndim == 4) == (batch.regions == "fpn")
    with pytest.raises(ValueError, match="cannot be in one batch"):
        dataset.batch(np.array([0, 30]), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"needs the regions 'vg'; available are fpn"):
        RegionDataset(corpus, {"fpn": stores["fpn"]}, Collate())
    with pytest.raises(ValueError, match=r"does not name its regions.*one:train@NAME"):
        RegionDataset(corpus_of(tables[0]), stores, Collate())


def test_one_id_in_two_sets_of_images_is_warned_about(
    regions: str,
    table: MakeTable,
    corpus_of: MakeCorpus,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_store(regions, tmp_path)
    coco, vg = table("one", images(1, 2, 3), "coco"), table("two", images(3, 2, 9), "vg")
    RegionDataset(corpus_of(coco, table("three", images(1, 2), "coco")), store, Collate())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    RegionDataset(corpus_of(coco, vg), store, Collate())
    assert "2 image ids are in both coco and vg" in caplog.text


def test_other_regions_than_a_model_was_trained_on_are_named(
    regions: str,
    table: MakeTable,
    corpus_of: MakeCorpus,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_store(regions, tmp_path)
    corpus, before = corpus_of(table("one", images(1))), provenance_of(store)
    RegionDataset(corpus, store, Collate(), trained_on={"": before})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    RegionDataset(corpus, store, Collate(), trained_on={"": before | {"detector": "vg-caffe"}})
    assert "detector: vg-caffe before, lite now" in caplog.text


@pytest.mark.usefixtures("processes")
def test_torchs_loader_with_processes_gives_the_same_batches(
    regions: str, table: MakeTable, corpus_of: MakeCorpus, tmp_path: Path
) -> None:
    corpus = corpus_of(table("one", images(*range(40))))
    dataset = RegionDataset(corpus, open_store(regions, tmp_path), Collate())
    loader = RegionLoader(dataset, 8)
    theirs = list(DataLoader(dataset, batch_size=None, sampler=loader.sampler, num_workers=2))
    assert len(theirs) == 5
    assert all(equal(one, other) for one, other in zip(theirs, loader, strict=True))
    plain = DataLoader(dataset, batch_size=16, collate_fn=dataset.collate_fn)
    assert [len(batch) for batch in plain] == [16, 16, 8]
    again = pickle.loads(pickle.dumps(dataset))
    assert equal(again[3], dataset[3])
    with pytest.raises(IndexError, match="no example 40; the dataset has 40"):
        dataset[40]
