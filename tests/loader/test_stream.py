"""A stream gives what a loader gives, from the parts themselves, over any number of workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlray.loader import (
    Collate,
    LoaderSection,
    PretrainingSection,
    RegionDataset,
    RegionLoader,
    RegionStream,
    open_store,
    spans,
)
from vlray.loader.inputs import ModelInputs
from vlray.regions.reading import open_parts
from vlray.tasks.corpus import Corpus
from vlray.tasks.examples import ExampleTable

PRETRAINING = LoaderSection(pretraining=PretrainingSection())


@pytest.fixture
def corpus(table: Callable[..., ExampleTable], corpus_of: Callable[..., Corpus]) -> Corpus:
    """A hundred questions about forty images, and three about images without regions."""
    images = [(str(i * 7 % 40),) for i in range(100)] + [("90",), ("91",), ("92",)]
    return corpus_of(table("one", images))


def stream_of(corpus: Corpus, regions: str, batch_size: int = 8, **how: Any) -> RegionStream:
    options = how.pop("options", None)
    indexes = {"": open_parts(regions)}
    how = {"rank": 0, "world": 1, "window": 8} | how
    return RegionStream(corpus, indexes, Collate(options), batch_size, **how)


def ids(batches: list[ModelInputs]) -> list[str]:
    return [example_id for batch in batches for example_id in batch.example_ids]


def content(batches: list[ModelInputs]) -> dict[str, Any]:
    """Give the regions, without padding, and tokens of every example."""
    found = {}
    for batch in batches:
        assert batch.targets is not None
        assert batch.visual_pos is not None
        for row, example_id in enumerate(batch.example_ids):
            real = batch.visual_attention_mask[row] == 1
            assert example_id not in found
            found[example_id] = (
                batch.image_ids[row],
                batch.visual_feats[row][real].tolist(),
                batch.visual_pos[row][real].tolist(),
                batch.input_ids[row][batch.attention_mask[row] == 1].tolist(),
                batch.targets[row].tolist(),
            )
    return found


def same(one: ModelInputs, other: ModelInputs) -> bool:
    assert one.pretraining is not None
    assert other.pretraining is not None
    return (
        one.example_ids == other.example_ids
        and torch.equal(one.input_ids, other.input_ids)
        and torch.equal(one.visual_feats, other.visual_feats)
        and torch.equal(one.pretraining.feat_mask, other.pretraining.feat_mask)
        and torch.equal(one.pretraining.mlm_labels, other.pretraining.mlm_labels)
    )


@given(st.integers(0, 60), st.integers(1, 5), st.integers(0, 9), st.integers(1, 4))
def test_what_is_left_of_an_epoch_can_be_divided_anew(
    total: int, world: int, used: int, other: int
) -> None:
    whole = [(0, total)] if total else []
    shares = spans.shares(whole, world)
    done = [spans.positions(spans.cut(share, 0, used)) for share in shares]
    left = spans.after(whole, world, used)
    again = [spans.positions(share) for share in spans.shares(left, other)]
    assert sorted(np.concatenate(done + again).tolist()) == list(range(total))
    # As many workers as before go on where each of them was.
    for share, rest in zip(shares, spans.shares(left, world), strict=True):
        if spans.length(left) == total - used * world:
            assert rest == spans.cut(share, used, total)


@pytest.mark.usefixtures("ray_cluster")
def test_a_stream_gives_the_loaders_examples_with_the_same_regions(
    corpus: Corpus, regions: str, tmp_path: Path
) -> None:
    dataset = RegionDataset(corpus, open_store(regions, tmp_path), Collate())
    expected = content(list(RegionLoader(dataset, 8, shuffle=False)))
    assert len(expected) == 100
    stream = stream_of(corpus, regions, drop_last=False)
    first, second = list(stream), list(stream)
    assert len(first) == len(stream) == 13
    assert content(first) == content(second) == expected
    assert ids(first) != ids(second)
    assert stream.epoch == 2
    assert stream.waited > 0


@pytest.mark.usefixtures("ray_cluster")
def test_a_resumed_stream_is_the_unbroken_one_bit_by_bit(corpus: Corpus, regions: str) -> None:
    unbroken = list(stream_of(corpus, regions, options=PRETRAINING, rank=1, world=2))
    begun = stream_of(corpus, regions, options=PRETRAINING, rank=1, world=2)
    batches = []
    for batch in begun:
        batches.append(batch)
        if len(batches) == 2:
            break
    resumed = stream_of(corpus, regions, options=PRETRAINING, rank=1, world=2)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    batches += list(resumed)
    assert len(unbroken) == 6
    assert all(same(one, other) for one, other in zip(unbroken, batches, strict=True))
    with pytest.raises(ValueError, match="with window 8, but here it is 16"):
        stream_of(corpus, regions, window=16).load_state_dict(begun.state_dict())


@pytest.mark.usefixtures("ray_cluster")
def test_pairs_with_their_second_image_elsewhere_and_two_outputs_by_name(
    regions: str,
    write_regions: Callable[..., str],
    table: Callable[..., ExampleTable],
    corpus_of: Callable[..., Corpus],
    tmp_path: Path,
) -> None:
    fpn = write_regions(str(tmp_path / "fpn"), [str(n) for n in range(40)], dim=6)
    pairs = table("pairs", [(str(i), str(39 - i)) for i in range(16)])
    singles = table("one", [(str(i),) for i in range(24)])
    corpus = corpus_of(pairs, singles, parts="pairs:train@fpn,one:train@vg")
    indexes = {"fpn": open_parts(fpn), "vg": open_parts(regions)}
    stream = RegionStream(corpus, indexes, Collate(), 8, rank=0, world=1, window=8)
    batches = list(stream)
    assert sorted(batch.regions for batch in batches) == ["fpn"] * 2 + ["vg"] * 3
    assert len(set(ids(batches))) == 40
    for batch in batches:
        numbers = np.array(batch.image_ids).astype(int)
        first = batch.visual_feats[..., 0, 0].numpy().reshape(numbers.shape)
        assert first.tolist() == numbers.tolist()


@pytest.mark.usefixtures("ray_cluster")
def test_a_bucket_is_streamed_without_a_local_copy(
    corpus: Corpus, write_regions: Callable[..., str], bucket: str, s3_server: str
) -> None:
    uri = f"{bucket}/out?endpoint_override={s3_server}"
    write_regions(uri, [str(n) for n in range(40)])
    batches = list(stream_of(corpus, uri, shuffle=False))
    assert sorted(content(batches)) == sorted(f"one-{i}" for i in range(100))
    for batch in batches:
        firsts = batch.visual_feats[:, 0, 0].tolist()
        assert firsts == [int(image_id) for (image_id,) in batch.image_ids]


@pytest.mark.usefixtures("ray_cluster")
def test_the_workers_of_a_ray_train_run_share_an_epoch(
    corpus: Corpus, regions: str, tmp_path: Path
) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    def train(config: dict[str, Any]) -> None:
        def stream() -> RegionStream:
            indexes = {"": open_parts(config["regions"])}
            return RegionStream(config["corpus"], indexes, Collate(), 8, window=8)

        begun, seen = stream(), []
        for batch in begun:
            seen += batch.example_ids
            if len(seen) == 16:
                break
        resumed, state = stream(), json.loads(json.dumps(begun.state_dict()))
        resumed.load_state_dict(state)
        seen += ids(list(resumed))
        store = open_store(config["regions"], Path(config["out"], "cache"))
        loader = RegionLoader(RegionDataset(config["corpus"], store, Collate()), 8)
        result = {"seen": seen, "state": state, "world": begun.world, "loaded": ids(list(loader))}
        Path(config["out"], f"{begun.rank}.json").write_text(json.dumps(result))

    TorchTrainer(
        train,
        train_loop_config={"corpus": corpus, "regions": regions, "out": str(tmp_path)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(name="shares", storage_path=str(tmp_path / "runs")),
    ).fit()
    workers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [worker["world"] for worker in workers] == [2, 2]
    assert workers[0]["state"] == workers[1]["state"]
    seen = [example_id for worker in workers for example_id in worker["seen"]]
    assert len(seen) == len(set(seen)) == 96  # six full batches for each of the two
    loaded = [example_id for worker in workers for example_id in worker["loaded"]]
    assert len(loaded) == len(set(loaded)) == 96
    for rank in range(2):
        assert workers[rank]["seen"] == ids(list(stream_of(corpus, regions, rank=rank, world=2)))


def test_a_mix_that_repeats_examples_is_refused(corpus: Corpus, regions: str) -> None:
    mixed = Corpus(corpus.spec.model_copy(update={"mix": "weight"}), corpus.tables, None)
    with pytest.raises(ValueError, match="mix: weight; use RegionLoader"):
        stream_of(mixed, regions)
