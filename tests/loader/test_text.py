"""The word pieces are BERT's, and the template is never cut off."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
from transformers import BertTokenizer

from vlray.loader.text import Tokenizer
from vlray.loader.word_pieces import BUNDLED, SPECIAL

CASED = (*SPECIAL, "the", "The", "Heart", "heart", "##s", "cafe", "caf", "##\u00e9", "?", "LV")
UNCASED = (*SPECIAL, "[unused1]", "<S>", "the", "heart", "##s", "cafe", "?", "lv")
QUESTION = "The hearts LV caf\u00e9?"

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


def vocabulary(folder: Path, pieces: tuple[str, ...], **casing: object) -> str:
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if casing:
        (folder / "tokenizer_config.json").write_text(json.dumps(casing))
    return str(folder)


def pieces_of(path: str, text: str = QUESTION) -> list[str]:
    tokenizer = Tokenizer(path)
    return tokenizer.tokens(tokenizer([text]).input_ids[0])[1:-1]


@pytest.mark.parametrize(
    ("pieces", "casing", "expected"),
    [
        (CASED, {}, ["The", "heart", "##s", "LV", "caf", "##\u00e9", "?"]),
        (CASED, {"do_lower_case": False}, ["The", "heart", "##s", "LV", "caf", "##\u00e9", "?"]),
        (CASED, {"do_lower_case": True}, ["the", "heart", "##s", "[UNK]", "cafe", "?"]),
        (
            CASED,
            {"do_lower_case": True, "strip_accents": False},
            ["the", "heart", "##s", "[UNK]", "caf", "##\u00e9", "?"],
        ),
        (UNCASED, {}, ["the", "heart", "##s", "lv", "cafe", "?"]),
        (UNCASED, {"do_lower_case": False}, ["[UNK]", "heart", "##s", "[UNK]", "[UNK]", "?"]),
    ],
)
@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json"])
def test_a_vocabulary_has_its_own_casing(
    pieces: tuple[str, ...],
    casing: dict[str, object],
    expected: list[str],
    form: str,
    tmp_path: Path,
) -> None:
    folder = vocabulary(tmp_path, pieces, **casing)
    if form == "tokenizer.json":
        Tokenizer(folder).save(tmp_path)
        (tmp_path / "vocab.txt").unlink()
    assert pieces_of(folder) == pieces_of(f"{folder}/{form}") == expected


def test_the_settings_beside_a_tokenizer_json_count(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path, CASED, do_lower_case=False)
    Tokenizer(folder).save(tmp_path)
    vocabulary(tmp_path, CASED, do_lower_case=True)
    assert pieces_of(folder) == ["the", "heart", "##s", "[UNK]", "cafe", "?"]


@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces_are_those_of_transformers(lower: bool, tmp_path: Path) -> None:
    folder = vocabulary(tmp_path, CASED, do_lower_case=lower)
    theirs = BertTokenizer.from_pretrained(folder)
    ours = Tokenizer(folder)
    for text in (QUESTION, "the Hearts [MASK] \u65e5 LV", "caf\u00e9s"):
        assert ours([text]).input_ids[0].tolist() == theirs(text)["input_ids"]


@pytest.mark.parametrize("pieces", [CASED, UNCASED], ids=["cased", "uncased"])
def test_a_saved_tokenizer_has_no_template_and_is_read_by_transformers(
    pieces: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "saved").mkdir()
    folder = vocabulary(tmp_path, pieces)
    ours = Tokenizer(folder, 6, "{text} ? [MASK]", fixed_length=True)
    ours.save(tmp_path / "saved")
    again, plain = Tokenizer(str(tmp_path / "saved")), Tokenizer(folder)
    theirs = BertTokenizer.from_pretrained(tmp_path / "saved")
    ids = plain([QUESTION]).input_ids.tolist()
    assert again([QUESTION]).input_ids.tolist() == theirs([QUESTION])["input_ids"] == ids
    pair = theirs("the", "heart")
    assert pair["token_type_ids"] == again(["the"], ["heart"]).token_type_ids[0].tolist()
    assert again.vocabulary_size == len(pieces)


def test_a_saved_tokenizer_has_the_punctuation_of_its_vocabulary(tmp_path: Path) -> None:
    asked = "Is this red, or blue?"
    Tokenizer(punctuation="visualbert").save(tmp_path)
    saved, plain = Tokenizer(str(tmp_path)), Tokenizer()
    assert saved([asked]).input_ids.tolist() == plain([asked]).input_ids.tolist()
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["do_lower_case"] is True


def test_the_bundled_vocabulary_has_a_name() -> None:
    assert pieces_of(BUNDLED) == pieces_of("")


@pytest.mark.parametrize("casing", [{"do_lower_case": "no"}, {"do_lower_case": None}])
def test_settings_that_are_not_true_or_false_are_refused(
    casing: dict[str, object], tmp_path: Path
) -> None:
    folder = vocabulary(tmp_path, CASED, **casing)
    with pytest.raises(ValueError, match=r"tokenizer_config\.json has .* true or false"):
        Tokenizer(folder)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json or vocab\.txt"):
        Tokenizer(str(tmp_path))
