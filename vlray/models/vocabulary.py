"""Tokenizers that belong to weights, and the check that a vocabulary fits the token embeddings."""

from __future__ import annotations

import logging
from pathlib import Path

from vlray.config.model import ModelSection
from vlray.loader.word_pieces import BUNDLED, FILES, SETTINGS
from vlray.models.weights import find
from vlray.storage import hub

log = logging.getLogger("vlray.models")

DEFAULT_ROWS = 30_522
"""Rows of the token embeddings of models that transformers initializes at random."""


def settle_tokenizer(options: ModelSection, tokenizer: str) -> str:
    """Return the tokenizer of a new training of a built-in model.

    Args:
        options: Uses ``weights`` and ``answer_start``.
        tokenizer: The user's ``loader.tokenizer``; empty: that of the weights.

    Raises:
        ValueError: The weights were not found, or the answers would be encoded with another
            vocabulary than the questions.
    """
    if tokenizer and options.answer_start == "text":
        raise ValueError(
            "model.answer_start=text encodes the answers with the tokenizer of model.weights; "
            f"remove loader.tokenizer={tokenizer}, and copy the file into the folder of the weights"
        )
    if not tokenizer and options.weights:
        tokenizer = tokenizer_of(options.weights)
    return "" if tokenizer == BUNDLED else tokenizer


def tokenizer_of(weights: str) -> str:
    """Return the path of the tokenizer that belongs to weights.

    A checkpoint of ``vlray train`` has the tokenizer of its training. Other weights have a
    ``tokenizer.json`` or ``vocab.txt`` in their folder.

    Args:
        weights: See `vlray.models.weights.find`.

    Returns:
        The path; empty if the weights have no tokenizer, which means bert-base-uncased.

    Raises:
        ValueError: The weights were not found, or the Hugging Face Hub cannot be reached.
    """
    source = find(weights)
    if source.info is not None:
        return source.info.loader.tokenizer
    location = Path(source.location)
    path = _on_hub(source.location) if not location.exists() else _beside(location)
    if path is None:
        log.info("%s has no tokenizer; texts are encoded with that of %s", weights, BUNDLED)
        return ""
    log.info("texts are encoded with the tokenizer %s", path)
    return str(path)


def check_vocabulary(tokenizer: str, pieces: int, weights: str, rows: int) -> None:
    """Refuse a vocabulary that does not have the size of the token embeddings.

    Embeddings may have some unused rows, which make their number a multiple of 8.

    Args:
        tokenizer: Path of the tokenizer; empty: bert-base-uncased.
        pieces: Number of its word pieces.
        weights: ``model.weights``; empty: random initialization.
        rows: Number of token embeddings.

    Raises:
        ValueError: The sizes differ.
    """
    if rows == pieces or (rows % 8 == 0 and 0 < rows - pieces < 128):
        return
    way_out = (
        "pass the vocabulary of these weights: --loader.tokenizer FOLDER (or its vocab.txt or "
        "tokenizer.json), or copy it into their folder"
    )
    if not weights:
        way_out = f"pass --model.architecture vocab_size={pieces}, or another --loader.tokenizer"
    raise ValueError(
        f"the tokenizer {tokenizer or BUNDLED} has {pieces:,} word pieces, but the token "
        f"embeddings of {weights or 'the model'} have {rows:,} rows; {way_out}"
    )


def embedding_rows(options: ModelSection) -> int:
    """Return the number of token embeddings of a built-in model before it is built."""
    config = find(options.weights).config if options.weights else options.architecture
    return int(config.get("vocab_size", DEFAULT_ROWS))


def _beside(location: Path) -> Path | None:
    folder = location if location.is_dir() else location.parent
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def _on_hub(repository: str) -> Path | None:
    try:
        for name in FILES:
            if path := hub.download_if_there(repository, name):
                # The casing is read from the file beside the vocabulary.
                hub.download_if_there(repository, SETTINGS)
                return path
    except ValueError as error:
        raise ValueError(
            f"the tokenizer of {repository} is unknown: {error}; or name it: --loader.tokenizer "
            f"FILE, or --loader.tokenizer {BUNDLED} if the weights have that vocabulary"
        ) from error
    return None
