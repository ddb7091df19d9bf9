"""The word pieces are BERT's, and the template is never cut off."""

from __future__ import annotations

import pickle
import re

import pytest

from vlray.loader.text import Tokenizer

# From BERT's own rules (lower case, accents off, CJK apart, greedy longest pieces), by hand.
PIECES = {
    "Is Zoe's caf\u00e9 \u65e5\u672c open?": [
        "is",
        "zoe",
        "'",
        "s",
        "cafe",
        "日",
        "本",
        "open",
        "?",
    ],
    "unaffable": ["una", "##ffa", "##ble"],
    "It's 12:30, isn't it?": ["it", "'", "s", "12", ":", "30", ",", "isn", "'", "t", "it", "?"],
    "x" * 101: ["[UNK]"],
    "the [MASK] dog": ["the", "[MASK]", "dog"],
}


@pytest.mark.parametrize("text", PIECES)
def test_word_pieces_are_those_of_bert(text: str) -> None:
    tokenizer = Tokenizer()
    ids = tokenizer([text]).input_ids[0]
    assert tokenizer.tokens(ids) == ["[CLS]", *PIECES[text], "[SEP]"]


def test_special_tokens_have_the_ids_of_bert_base_uncased() -> None:
    tokenizer = Tokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [tokenizer.id_of(name) for name in names] == [0, 100, 101, 102, 103]
    assert tokenizer.vocabulary_size == 30522


@pytest.mark.parametrize("text", ["Who is it?", "who is it ??", "dog " * 40])
def test_the_token_before_the_last_is_the_templates_mask(text: str) -> None:
    tokenizer = Tokenizer(template="{text} ? [MASK]")
    tokens = tokenizer([text, "a longer text than the first one"])
    real = tokens.input_ids[0][tokens.attention_mask[0] == 1]
    assert tokenizer.tokens(real[-3:]) == ["?", "[MASK]", "[SEP]"]
    assert tokenizer.tokens(real).count("?") == 1
    assert len(real) <= 20
    assert not tokens.is_text[0][len(real) - 3 :].any()


def test_padding_leaves_a_text_as_it_is() -> None:
    tokenizer = Tokenizer()
    alone = tokenizer(["a dog"])
    beside = tokenizer(["a dog", "a much longer text about a dog"])
    length = alone.input_ids.shape[1]
    assert (beside.input_ids[0, :length] == alone.input_ids[0]).all()
    assert beside.input_ids[0, length:].sum() == beside.attention_mask[0, length:].sum() == 0


def test_pairs_have_two_segments() -> None:
    tokens = Tokenizer()(["a dog"], ["a cat"])
    assert tokens.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert tokens.is_text.tolist() == [[False, True, True, False, True, True, False]]


def test_fixed_length_gives_one_shape_and_pickles() -> None:
    tokenizer = pickle.loads(pickle.dumps(Tokenizer(fixed_length=True)))
    assert tokenizer(["a"]).input_ids.shape == (1, 20)


def test_a_template_without_room_or_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"once"):
        Tokenizer(template="? [MASK]")
    with pytest.raises(ValueError, match=r"pass 5 or more"):
        Tokenizer(max_tokens=4, template="{text} ? [MASK]")


def question_words(sentence: str) -> list[str]:
    """Split a question as VisualBERT does.

    Source: ``tokenize``, uclanlp/visualbert visualbert/dataloaders/vqa_dataset.py.
    """
    sentence = sentence.lower()
    sentence = sentence.replace(",", "").replace("?", "").replace("'s", " 's")
    tokens = re.split(r"(\W+)", sentence)
    return [t.strip() for t in tokens if len(t.strip()) > 0]


QUESTIONS = [
    "Is this red,blue or 1,000 green?",
    "What is that? A dog's, or a cat's toy?",
    "Is it 90\u00b0 outside (\u00a35/\u20ac6)?",
    'Does the caf\u00e9 say "no_entry"...?',
    "Which side,",
    "Why?",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_have_the_tokens_of_visualberts_vqa_training(question: str) -> None:
    template = "{text} ? [MASK]"
    tokenizer = Tokenizer(max_tokens=40, template=template, punctuation="visualbert")
    words = Tokenizer(max_tokens=40)([" ".join(question_words(question))]).input_ids[0]
    ends = [tokenizer.id_of("[MASK]"), tokenizer.id_of("[SEP]")]
    (asked,) = Tokenizer()(["?"]).input_ids[:, 1]
    assert tokenizer([question]).input_ids[0].tolist() == [*words[:-1], asked, *ends]


def test_positions_are_those_of_the_text_with_its_commas() -> None:
    text = "a, b?, the dog"
    encoding = Tokenizer(punctuation="visualbert")([text]).encodings[0]
    assert encoding.char_to_token(text.index("dog")) == 4
