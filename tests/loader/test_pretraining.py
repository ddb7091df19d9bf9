"""What is masked, how often, and that equal seeds mask the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.config.loader import PretrainingSection
from vlray.loader.pretraining import Texts, draw_answers, mask_tokens, pair_texts
from vlray.loader.text import Tokenizer
from vlray.loader.word_pieces import MASK
from vlray.tasks.example import Example


def take(places: np.ndarray) -> list[Example]:
    return [Example(str(place), f"text {place}", ("1",)) for place in places.tolist()]


def near(count: int, total: int, rate: float) -> bool:
    """Five standard deviations of the binomial."""
    return abs(count - total * rate) < 5 * (total * rate * (1 - rate)) ** 0.5


def test_tokens_are_masked_as_often_as_bert_says() -> None:
    tokenizer, options = Tokenizer(), PretrainingSection()
    tokens = tokenizer(["the man in the red shirt is riding a brown horse today"] * 4000)
    ids, labels = mask_tokens(tokens, tokenizer, options, np.random.default_rng(0))
    chosen = labels != -100
    total = int(chosen.sum())
    assert not chosen[~tokens.is_text].any()
    assert near(total, int(tokens.is_text.sum()), 0.15)
    np.testing.assert_array_equal(ids[~chosen], tokens.input_ids[~chosen])
    np.testing.assert_array_equal(labels[chosen], tokens.input_ids[chosen])
    assert near(int((ids[chosen] == tokenizer.id_of(MASK)).sum()), total, 0.8)
    assert near(int((ids[chosen] == labels[chosen]).sum()), total, 0.1)
    again, _ = mask_tokens(tokens, tokenizer, options, np.random.default_rng(0))
    np.testing.assert_array_equal(ids, again)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 1000))
def test_another_text_is_never_of_the_same_image(images: list[int], seed: int) -> None:
    of = np.array(images)
    if len(set(images)) == 1:
        with pytest.raises(ValueError, match=r"all texts .* are of one image"):
            Texts(of, take)
        return
    texts, places = Texts(of, take), np.arange(len(of))
    rng = np.random.default_rng(seed)
    assert (of[texts.other(places, rng)] != of).all()
    same = texts.same(places, rng)
    found = same >= 0
    np.testing.assert_array_equal(of[same[found]], of[found])
    assert (same != places).all()
    np.testing.assert_array_equal(found, [images.count(image) > 1 for image in images])


def test_every_text_of_another_image_is_equally_likely() -> None:
    texts = Texts(np.array([0, 0, 1, 2, 2]), take)
    drawn = texts.other(np.zeros(9000, np.int64), np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == counts[1] == 0
    assert all(near(int(count), 9000, 1 / 3) for count in counts[2:])


@pytest.mark.parametrize("sentences", ["one", "two"])
def test_half_of_the_texts_are_of_another_image(sentences: str) -> None:
    images = np.arange(4000) // 2
    places = np.arange(4000)
    own = [f"text {place}" for place in places]
    options = PretrainingSection.model_validate({"sentences": sentences})
    rng = np.random.default_rng(0)
    first, second, matched = pair_texts(own, places, Texts(images, take), options, rng)
    assert near(int(matched.sum()), 4000, 0.5)
    told = np.array([int(text.split()[1]) for text in (second or first)])
    np.testing.assert_array_equal(images[told] == images, matched)
    assert second is None or (told != places).all()


def test_answers_are_drawn_by_their_score_and_dropped_where_unmatched() -> None:
    goals = np.tile(np.array([[0, 0.3, 0.9, 0]], np.float32), (4000, 1))
    goals[0] = 0
    matched = np.ones(4000, bool)
    matched[1] = False
    drawn = draw_answers(goals, matched, np.random.default_rng(0))
    assert drawn[:2].tolist() == [-100, -100]
    assert set(drawn[2:].tolist()) == {1, 2}
    assert near(int((drawn == 2).sum()), 3998, 0.75)
