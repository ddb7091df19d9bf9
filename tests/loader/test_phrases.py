"""Phrases point at their last token, and at the regions that the metric counts as hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.config.loader import LoaderSection
from vlray.engine.reachable import count_reachable
from vlray.loader import Collate, RegionDataset, open_store
from vlray.loader.phrases import (
    Phrases,
    are_grounded,
    check_grounded,
    phrases_of,
)
from vlray.loader.text import Tokenizer
from vlray.tasks.corpus import Corpus
from vlray.tasks.example import Answers, Boxes, Example
from vlray.tasks.examples import ExampleTable, table_from
from vlray.tasks.grounding import phrase_hits

TEXT = "A man in an unbelievably Café-coloured shirt pets two dogs."
MAN, SHIRT, DOGS = (0, 5), (9, 44), (50, 58)
BOX = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2).map(
    lambda box: (float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3]))
)
TOKENIZER = Tokenizer()


def example(*boxes: tuple[tuple[int, int], tuple[float, ...]], text: str = TEXT) -> Example:
    spans = tuple(span for span, _ in boxes)
    return Example("e", text, ("1",), Boxes(tuple(box for _, box in boxes), (), spans))


def found(
    examples: list[Example], regions: np.ndarray, tokenizer: Tokenizer, num_boxes: int = 99
) -> Phrases:
    tokens = tokenizer([one.text for one in examples])
    boxes = np.tile(regions.astype(np.float32), (len(examples), 1, 1))
    return phrases_of(examples, tokens, boxes, np.full(len(examples), num_boxes, np.int32))


@pytest.mark.parametrize("template", ["{text}", "{text} ? [MASK]", "what is this: {text}"])
def test_a_phrase_is_read_at_its_last_word_piece(template: str) -> None:
    tokenizer = Tokenizer(max_tokens=40, template=template)
    box = (0.0, 0.0, 5.0, 5.0)
    examples = [example((MAN, box), (SHIRT, box), (DOGS, box)), example((DOGS, box))]
    phrases = found(examples, np.array([box]), tokenizer)
    assert phrases.spans == ((MAN, SHIRT, DOGS), (DOGS,))
    ids = tokenizer([TEXT]).input_ids[0]
    words = tokenizer.tokens(ids[phrases.positions[0]])
    assert words == ["man", "shirt", "dogs"]
    assert phrases.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert phrases.positions[1].tolist() == [phrases.positions[0, 2], 0, 0]


def test_a_phrase_behind_the_end_of_a_cut_text_is_masked() -> None:
    box = (0.0, 0.0, 5.0, 5.0)
    one = example((MAN, box), (SHIRT, box), (DOGS, box))
    phrases = found([one], np.array([box]), Tokenizer(max_tokens=8))
    assert phrases.mask.tolist() == [[1, 1, 0]]
    assert phrases.spans == ((MAN, SHIRT, DOGS),)


def test_a_text_without_spans_is_one_phrase() -> None:
    label = Boxes(((10.0, 10.0, 20.0, 20.0),))
    tokenizer = Tokenizer()
    text = "the left dog"
    phrases = found(
        [Example("r", text, ("1",), label)], np.array([[10, 10, 19, 20], [0, 0, 5, 5]]), tokenizer
    )
    assert phrases.spans == (((0, len(text)),),)
    assert phrases.positions.tolist() == [[3]]
    assert phrases.targets.tolist() == [[[1, 0]]]


def test_a_caption_without_boxes_has_no_phrase() -> None:
    phrases = found([Example("e", TEXT, ("1",), Boxes(()))], np.zeros((2, 4)), Tokenizer())
    assert phrases.spans == ((),)
    assert phrases.mask.tolist() == [[0]]
    assert not phrases.targets.any()


@given(
    st.lists(st.tuples(st.sampled_from([MAN, SHIRT, DOGS]), BOX), min_size=1, max_size=6),
    st.lists(BOX, min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_targets_are_what_the_metric_calls_a_hit(
    boxes: list[tuple[tuple[int, int], tuple[float, ...]]],
    regions: list[tuple[float, ...]],
    num_boxes: int,
) -> None:
    one = example(*boxes)
    targets = found([one], np.array(regions), TOKENIZER, num_boxes).targets[0]
    assert isinstance(one.label, Boxes)
    spans = list(dict.fromkeys(one.label.spans))
    for place, region in enumerate(regions):
        hits = phrase_hits(one.label, [[list(region)]] * len(spans))
        wanted = [hits[span][0] and place < num_boxes for span in spans]
        assert (targets[:, place] > 0).tolist() == wanted
    sums = targets.sum(axis=1)
    np.testing.assert_allclose(sums, sums > 0, rtol=1e-6)


def test_only_texts_that_speak_of_boxes_are_grounded() -> None:
    one = example((MAN, (0.0, 0.0, 5.0, 5.0)))
    assert are_grounded([one, one])
    assert not are_grounded([one, Example("q", "what?", ("1",), Answers(("yes",)))])
    assert not are_grounded([Example("d", "", ("1",), Boxes(((0.0, 0.0, 1.0, 1.0),)))])


def test_phrases_that_no_region_lies_on_are_counted(
    regions: str,
    table: Callable[..., ExampleTable],
    corpus_of: Callable[..., Corpus],
    tmp_path: Path,
) -> None:
    store = open_store(regions, tmp_path)
    boxes = np.zeros((20, 4, 4), np.float32)
    store.read_boxes(store.rows([str(number) for number in range(20)]), boxes)
    far = (190.0, 90.0, 199.0, 99.0)

    def examples() -> Iterator[Example]:
        for number in range(20):
            label = example((MAN, tuple(boxes[number, number % 4].tolist())), (DOGS, far)).label
            yield Example(f"e{number}", TEXT, (str(number),), label)

    spec = table("plain", [("1",)]).spec
    corpus = corpus_of(table_from(examples(), spec, "train", tmp_path / "boxes.arrow"))
    dataset = RegionDataset(corpus, store, Collate(LoaderSection()))
    phrases, reachable = count_reachable(dataset)
    assert phrases == 40
    hits = [dataset[index].phrases for index in range(20)]
    assert reachable == sum(int((one.targets.sum(2) > 0).sum()) for one in hits if one)
    assert 20 <= reachable < 40
    assert count_reachable(dataset, 5)[0] == 10
    # Image number n has n % 4 + 1 regions, of which the phrase's is the last.
    few = RegionDataset(corpus, store, Collate(LoaderSection(num_boxes=1)))
    assert 5 <= count_reachable(few)[1] < reachable


def test_boxes_that_no_text_speaks_of_are_refused(
    table: Callable[..., ExampleTable], corpus_of: Callable[..., Corpus]
) -> None:
    plain = table("one", [("1",)])
    spec = plain.spec.model_copy(update={"labels": "boxes", "metric": "average precision"})
    objects = ExampleTable(plain.path, spec=spec)
    with pytest.raises(ValueError, match=r"one:train \(average precision\).*needs a grounding"):
        check_grounded(corpus_of(objects))
    spec = spec.model_copy(update={"metric": "phrase recall"})
    check_grounded(corpus_of(ExampleTable(plain.path, spec=spec)))
