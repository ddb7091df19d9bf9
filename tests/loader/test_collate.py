"""Batches hold what the store and the examples hold, whatever is beside it in the batch."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.loader.collate import Collate
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table
from vlray.regions.store import RegionStore, open_store
from vlray.storage import files
from vlray.tasks.example import Answers, Boxes, Choices, Example
from vlray.tasks.labels import LabelSpace

COUNTS = [3, 7, 0, 5]
SPACE = LabelSpace(("no", "yes"))


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    """Four images of 100 x 200 pixels with 3, 7, 0 and 5 regions, vectors of 16 numbers."""
    rng, regions = np.random.default_rng(0), sum(COUNTS)
    corners = np.sort(rng.random((regions, 2, 2), np.float32), axis=1).reshape(regions, 4)
    batch = RegionBatch(
        image_hw=np.tile(np.array([[100, 200]], np.int32), (len(COUNTS), 1)),
        num_boxes=np.array(COUNTS, np.int32),
        boxes=corners * np.array([200, 100, 200, 100], np.float32),
        visual_feats=rng.random((regions, 16), np.float32) + 1,
        obj_ids=rng.integers(0, 2, regions).astype(np.int32),
        obj_probs=rng.random(regions, np.float32),
    )
    about = {"vlray_version": "0.1.0", "schema_version": 1, "detector": {"name": "lite"}}
    fs, root = files.resolve(str(tmp_path / "out"))
    files.write_atomic(fs, files.join(root, parts.SETTINGS), json.dumps(about).encode())
    schema = regions_schema(16, "float16", about | {"detector_name": "lite", "feature_dim": 16})
    names = [str(number) for number in range(len(COUNTS))]
    table = to_table(batch, names, names, [""] * len(names), schema)
    path = files.join(root, parts.REGIONS, parts.part_name(0))
    files.write_atomic(fs, path, parts.encode_regions(table, "zstd"))
    return open_store(str(tmp_path / "out"), tmp_path / "cache")


def question(row: int, text: str = "is it a dog?") -> Example:
    return Example(f"q{row}", text, (str(row),), Answers(("yes",)))


def test_a_batch_of_one_is_its_row_in_a_batch_of_many(store: RegionStore) -> None:
    collate, rng = Collate(), np.random.default_rng(0)
    examples = [question(row, "is it " + "very " * row + "big?") for row in range(4)]
    many = collate(examples, np.arange(4), store, SPACE, rng)
    assert many.visual_attention_mask.sum(1).tolist() == COUNTS
    assert not many.visual_feats[many.visual_attention_mask == 0].any()
    assert many.visual_pos is not None
    assert not many.visual_pos[many.visual_attention_mask == 0].any()
    assert many.label_ids is not None
    assert many.label_ids.tolist() == [1] * 4
    for row in range(4):
        one = collate([examples[row]], np.array([row]), store, SPACE, rng)
        regions, tokens = one.visual_feats.shape[1], one.input_ids.shape[1]
        torch.testing.assert_close(one.visual_feats[0], many.visual_feats[row, :regions])
        torch.testing.assert_close(one.input_ids[0], many.input_ids[row, :tokens])
        assert one.visual_pos is not None
        torch.testing.assert_close(one.visual_pos[0], many.visual_pos[row, :regions])


def test_a_fixed_number_of_regions_cuts_and_pads(store: RegionStore) -> None:
    collate = pickle.loads(pickle.dumps(Collate(LoaderSection(num_boxes=4, boxes="none"))))
    batch = collate(
        [question(0), question(1)], np.array([0, 1]), store, None, np.random.default_rng(0)
    )
    assert batch.visual_feats.shape == (2, 4, 16)
    assert batch.visual_attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.visual_pos is batch.targets is batch.label_ids is None


def test_pairs_of_images_and_choices_get_their_own_dimension(store: RegionStore) -> None:
    rng = np.random.default_rng(0)
    pair = Example("p", "both are dogs", ("0", "1"), Answers(("no",)))
    batch = Collate()([pair], np.array([[0, 1]]), store, SPACE, rng)
    assert batch.visual_feats.shape == (1, 2, 7, 16)
    assert batch.visual_attention_mask.sum(2).tolist() == [[3, 7]]
    choice = Example("c", "why?", ("0",), Choices(("a", "b b", "c", "d"), 2))
    batch = Collate()([choice], np.array([0]), store, None, rng)
    assert batch.input_ids.shape[:2] == (1, 4)
    assert batch.label_ids is not None
    assert batch.label_ids.tolist() == [2]
    with pytest.raises(ValueError, match="1 of 2 examples have choices"):
        Collate()([choice, question(1)], np.array([0, 1]), store, None, rng)


def test_masked_regions_are_zero_another_images_or_their_own(store: RegionStore) -> None:
    options = PretrainingSection(sentences="own", region_rate=0.5, hidden=0.4, swapped=0.4)
    collate = Collate(LoaderSection(pretraining=options))
    rows = np.tile(np.arange(4), 200)
    examples = [question(row) for row in rows.tolist()]
    one, two = (collate(examples, rows, store, SPACE, np.random.default_rng(7)) for _ in range(2))
    torch.testing.assert_close(one.visual_feats, two.visual_feats, rtol=0, atol=0)
    torch.testing.assert_close(one.input_ids, two.input_ids, rtol=0, atol=0)
    hidden = one.pretraining
    assert hidden is not None
    masked = hidden.feat_mask == 1
    assert not masked[one.visual_attention_mask == 0].any()
    torch.testing.assert_close(one.visual_feats[~masked], hidden.feat_targets[~masked])
    assert abs(float(masked.sum()) / float(one.visual_attention_mask.sum()) - 0.5) < 0.05
    now, before = one.visual_feats[masked], hidden.feat_targets[masked]
    zero, kept = (now == 0).all(1), (now == before).all(1)
    assert abs(float(zero.float().mean()) - 0.4) < 0.06
    assert abs(float(kept.float().mean()) - 0.2) < 0.06
    owners = torch.from_numpy(rows)[:, None].expand(masked.shape)[masked]
    for row in (0, 1, 3):
        own = hidden.feat_targets[row][: COUNTS[row]]
        for vector in now[(owners == row) & ~zero & ~kept]:
            assert not (own == vector).all(1).any()
    assert hidden.obj_labels is not None
    assert (hidden.obj_labels[one.visual_attention_mask == 0] == -100).all()
    assert hidden.attr_labels is None


@pytest.mark.parametrize("hidden", [None, PretrainingSection(sentences="own", region_rate=1)])
def test_without_images_nothing_of_them_is_in_the_batch(
    store: RegionStore, hidden: PretrainingSection | None
) -> None:
    collate = Collate(LoaderSection(visual="none", num_boxes=5, pretraining=hidden))
    pair = Example("p", "both are dogs", ("0", "1"), Answers(("no",)))
    examples, rows = ([pair], [[0, 1]]) if hidden is None else ([question(0)], [[0]])
    batch = collate(examples, np.array(rows), store, SPACE, np.random.default_rng(0))
    assert batch.visual_attention_mask.flatten().tolist() == [1] * len(rows[0])
    assert batch.visual_feats.shape[-2:] == (1, 16)
    assert not batch.visual_feats.any()
    assert batch.visual_pos is not None
    assert not batch.visual_pos.any()
    assert (batch.pretraining is None) == (hidden is None)
    if batch.pretraining is not None:
        assert not batch.pretraining.feat_targets.any()
        assert not batch.pretraining.feat_mask.any()
        assert batch.pretraining.obj_labels is None


def test_phrases_are_of_the_regions_in_the_batch(store: RegionStore) -> None:
    boxes = np.empty((4, 7, 4), np.float32)
    store.read_boxes(np.arange(4), boxes)

    def grounded(row: int, region: int) -> Example:
        box = tuple(boxes[row, region].tolist())
        return Example(f"g{row}", "a dog and a cat", (str(row),), Boxes((box,), (), ((0, 5),)))

    examples = [grounded(3, 1), grounded(1, 6)]
    for count in (0, 4, 9):
        collate = Collate(LoaderSection(num_boxes=count))
        batch = collate(examples, np.array([3, 1]), store, None, np.random.default_rng(0))
        phrases = batch.to("cpu").phrases
        assert phrases is not None
        assert phrases.targets.shape == (2, 1, batch.visual_feats.shape[1])
        assert phrases.targets[0, 0, 1] > 0
        assert not phrases.targets[batch.visual_attention_mask[:, None] == 0].any()
        assert (phrases.targets.sum() > 1) == (count != 4)
        words = batch.input_ids.gather(1, phrases.positions)
        assert collate.tokenizer.tokens(words.flatten().tolist()) == ["dog"] * 2
    mixed = [grounded(3, 1), question(1)]
    batch = Collate()(mixed, np.array([3, 1]), store, SPACE, np.random.default_rng(0))
    assert batch.phrases is None
