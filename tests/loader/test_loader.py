"""Epochs go on where they were left, bit by bit, and leave nothing running."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import vlray
from vlray.config.data import DataSection
from vlray.loader import (
    Collate,
    LoaderSection,
    PretrainingSection,
    RegionDataset,
    RegionLoader,
    open_store,
)
from vlray.loader.inputs import ModelInputs, PretrainingTargets
from vlray.tasks.corpus import CorpusSpec
from vlray.tasks.saved_corpora import save_corpus

PRETRAINING = LoaderSection(pretraining=PretrainingSection())


@pytest.fixture
def dataset(
    regions: str, table: Callable[..., object], corpus_of: Callable[..., object], tmp_path: Path
) -> RegionDataset:
    """A hundred questions about forty images, masked for pretraining."""
    corpus = corpus_of(table("one", [(str(i * 7 % 40),) for i in range(100)]))
    return RegionDataset(corpus, open_store(regions, tmp_path), Collate(PRETRAINING))


def same(one: object, other: object) -> bool:
    """Tell whether two batches are equal in every bit."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, torch.Tensor):
            if a.dtype != b.dtype or not torch.equal(a, b):
                return False
        elif isinstance(a, PretrainingTargets):
            if not same(a, b):
                return False
        elif a != b:
            return False
    return True


def ids(batches: list[ModelInputs]) -> list[str]:
    return [example_id for batch in batches for example_id in batch.example_ids]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_resumed_epoch_is_the_unbroken_one_bit_by_bit(
    dataset: RegionDataset, prefetch: int
) -> None:
    unbroken = list(RegionLoader(dataset, 8, seed=3))
    first = RegionLoader(dataset, 8, seed=3, prefetch=prefetch)
    begun = []
    for batch in first:
        begun.append(batch)
        if len(begun) == 5:
            break
    state = json.loads(json.dumps(first.state_dict()))
    second = RegionLoader(dataset, 8, seed=3, prefetch=prefetch)
    second.load_state_dict(state)
    resumed = begun + list(second)
    assert len(unbroken) == 12 == len(first)
    assert all(same(one, other) for one, other in zip(unbroken, resumed, strict=True))
    assert second.state_dict()["epoch"] == 1
    assert not same(next(iter(second)), unbroken[0])


def test_an_iteration_that_was_left_goes_on_and_the_next_is_the_next_epoch(
    dataset: RegionDataset,
) -> None:
    loader = RegionLoader(dataset, 8)
    left = [batch for batch, _ in zip(loader, range(4), strict=False)]
    # zip has taken one more to find that the range is at its end
    rest = list(loader)
    assert len(left) + 1 + len(rest) == 12
    assert len(set(ids(left + rest))) == 11 * 8
    other = list(loader)
    assert len(other) == 12
    assert ids(other) != ids(list(RegionLoader(dataset, 8)))


def test_workers_get_shares_of_their_own(dataset: RegionDataset) -> None:
    shares = [
        ids(list(RegionLoader(dataset, 8, shuffle=False, rank=rank, world=3))) for rank in range(3)
    ]
    everything = Counter(example_id for share in shares for example_id in share)
    assert everything == Counter(f"one-{i}" for i in range(100))
    with pytest.raises(ValueError, match="give both or neither"):
        RegionLoader(dataset, 8, rank=1)


def test_nothing_is_left_running_when_the_iteration_is_left(dataset: RegionDataset) -> None:
    before = threading.active_count()
    loader = RegionLoader(dataset, 4, prefetch=4)
    for batch in loader:
        assert len(batch) == 4
        assert threading.active_count() > before
        break
    assert threading.active_count() == before
    assert loader.waited > 0


def test_an_error_of_the_background_names_the_examples(
    dataset: RegionDataset, tmp_path: Path
) -> None:
    (feats,) = tmp_path.rglob("*.feats")
    with feats.open("r+b") as file:
        file.truncate(100)
    before = threading.active_count()
    with pytest.raises(OSError, match="is truncated") as caught:
        list(RegionLoader(dataset, 8, shuffle=False))
    assert "one:train one-0, one:train one-1" in caught.value.__notes__[0]
    assert threading.active_count() == before


def test_one_call_opens_official_files_and_regions(
    write_regions: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    questions = [
        {"question_id": i, "image_id": i % 10, "question": f"is it {i}?"} for i in range(30)
    ]
    annotations = [
        {
            "question_id": i,
            "image_id": i % 10,
            "question_type": "is it",
            "answer_type": "yes/no",
            "multiple_choice_answer": "yes",
            "answers": [{"answer": "yes", "answer_id": k} for k in range(1, 11)],
        }
        for i in range(30)
    ]
    (tmp_path / "vqa").mkdir()
    for kind, name, entries in [
        ("questions", "v2_OpenEnded_mscoco_train2014_questions.json", questions),
        ("annotations", "v2_mscoco_train2014_annotations.json", annotations),
    ]:
        (tmp_path / "vqa" / name).write_text(json.dumps({kind: entries}))
    out = write_regions(str(tmp_path / "out"), [str(i) for i in range(10)])
    data = DataSection(
        annotations={"vqa": str(tmp_path / "vqa")}, cache_dir=str(tmp_path / "cache")
    )
    loader = vlray.open_loader("vqa:train", regions=out, batch_size=10, data=data)
    batches = list(loader)
    assert sorted(ids(batches), key=int) == [str(i) for i in range(30)]
    assert loader.dataset.corpus.label_space is not None
    assert loader.dataset.corpus.label_space.names == ("yes",)
    assert batches[0].targets is not None
    assert batches[0].targets.tolist() == [[1.0]] * 10
    spec = CorpusSpec.model_validate({"parts": "vqa:train", "mix": "weight"})
    save_corpus("kept", spec, "default")
    kept = vlray.open_loader("kept", regions=out, batch_size=10, data=data)
    assert kept.dataset.corpus.spec.mix == "weight"
    with pytest.raises(ValueError, match="of gqa:train, but this loader is of vqa:train"):
        loader.load_state_dict(loader.state_dict() | {"corpus": "gqa:train"})
