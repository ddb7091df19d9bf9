"""Vocabularies of BERTs: files of word pieces, and whether texts are lower-cased first."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

UNKNOWN, PADDING, START, END, MASK = "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PADDING, UNKNOWN, START, END, MASK)

BUNDLED = "bert-base-uncased"
"""Name of the vocabulary that vlray brings along."""
TOKENIZER = "tokenizer.json"
FILES = (TOKENIZER, "vocab.txt")
"""Vocabulary files in a folder, in the order of preference."""
SETTINGS = "tokenizer_config.json"
"""File beside a vocabulary that says whether texts are lower-cased."""
_CASING = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
"""Names in ``tokenizer_config.json``, and those of ``BertNormalizer``."""


def load_word_pieces(path: str) -> tokenizers.Tokenizer:
    """Load a vocabulary, with the casing that belongs to it.

    ``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars`` in a
    ``tokenizer_config.json`` beside the file count, as in transformers. No code is run.

    Args:
        path: ``vocab.txt`` (one word piece per line), a BERT's ``tokenizer.json``, or a folder with
            one of them. Empty or ``bert-base-uncased``: that vocabulary. Without a
            ``tokenizer_config.json``, texts are lower-cased unless pieces of ``vocab.txt`` have
            capital letters.

    Raises:
        ValueError: The file is not the vocabulary of a BERT.
        OSError: The file cannot be read.
    """
    if path in ("", BUNDLED):
        folder = resources.files("vlray.loader.vocabulary")
        text = folder.joinpath("bert_base_uncased.txt").read_text(encoding="utf-8")
        return _of_pieces(text, path)
    file = _file_of(Path(path).expanduser())
    settings = _settings(file.with_name(SETTINGS))
    if file.suffix == ".json":
        return _of_json(file, settings)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a vocab.txt in UTF-8: {error}") from error
    tokenizer = _of_pieces(text, str(file))
    tokenizer.normalizer = normalizers.BertNormalizer(
        **{"lowercase": not _is_cased(text)} | settings
    )
    return tokenizer


def _is_cased(text: str) -> bool:
    """Return whether more than a few pieces have capital letters, which lower-casing would hide."""
    pieces = text.split()
    # [MASK], [unused1] and <S> are no words, and are in every vocabulary.
    capitals = sum(bool(re.match(r"(##)?\w*[A-Z]", piece)) for piece in pieces)
    return capitals > len(pieces) / 100


def save_word_pieces(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, which vlray and transformers read.

    Truncation and padding of the tokenizer are left out, and of its template all but [CLS] and
    [SEP].
    """
    plain = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    plain.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B:1 {END}:1",
        special_tokens=[(name, plain.token_to_id(name)) for name in (START, END)],
    )
    text = plain.to_str()
    (folder / TOKENIZER).write_text(text, encoding="utf-8")
    # transformers takes the casing from here only.
    stored = json.loads(text)["normalizer"] or {}
    settings = {name: stored[option] for name, option in _CASING.items() if option in stored}
    if settings:
        (folder / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise ValueError(
        f"the folder {path} has no {' or '.join(FILES)}; pass the vocabulary of a BERT"
    )


def _of_json(file: Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    text = file.read_text(encoding="utf-8")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises no more specific error
        raise ValueError(f"{file} is not a tokenizer.json: {error}") from error
    if settings and isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        stored = json.loads(text)["normalizer"]
        names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
        options = {name: stored[name] for name in names if name in stored}
        tokenizer.normalizer = normalizers.BertNormalizer(**options | settings)
    return tokenizer


def _of_pieces(text: str, path: str) -> tokenizers.Tokenizer:
    """Build a BERT's tokenizer, for lower-cased texts, from one word piece per line."""
    # splitlines() would also split at the Unicode line separators that are word pieces.
    lines = re.sub(r"\r?\n\Z", "", text).split("\n")
    pieces = {piece.rstrip("\r"): index for index, piece in enumerate(lines)}
    if UNKNOWN not in pieces:
        raise ValueError(f"{path} has no token {UNKNOWN}; pass the vocabulary of a BERT")
    # As in BERT, a word of more than 100 characters becomes [UNK].
    model = models.WordPiece(pieces, unk_token=UNKNOWN, max_input_chars_per_word=100)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([name for name in SPECIAL if name in pieces])
    return tokenizer


def _settings(path: Path) -> dict[str, Any]:
    """Read the casing from a ``tokenizer_config.json``, by the names of ``BertNormalizer``."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = {option: values[name] for name, option in _CASING.items() if name in values}
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a {SETTINGS}: {error}") from error
    # strip_accents: null means as lower-casing.
    wrong = {n: v for n, v in settings.items() if not isinstance(v, bool | None)}
    if wrong or None in (settings.get("lowercase", True), settings.get("handle_chinese_chars", 1)):
        raise ValueError(f"{path} has {settings}, where true or false was expected")
    return settings
