"""Encoding of texts as BERT word pieces.

Shapes: N: texts; T: tokens per text, including padding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Encoding, Regex, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Library

from vlray.config.loader import Punctuation
from vlray.loader.word_pieces import (
    END,
    PADDING,
    SPECIAL,
    START,
    UNKNOWN,
    load_word_pieces,
    save_word_pieces,
)

# Encoding a batch takes less time than starting a thread pool. Also, a process must not fork after
# it has used the pool, and DataLoader forks its workers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Encoded texts, padded on the right.

    Attributes:
        input_ids: Token ids; padding is [PAD].
        attention_mask: 1 for real tokens, 0 for padding.
        token_type_ids: 1 for the second text of a pair, 0 otherwise.
        is_text: True for tokens of the text itself, which may be masked. False for padding, [CLS],
            [SEP] and the template.
        encodings: Encodings from the tokenizers library, which map characters to tokens.
    """

    input_ids: Int64[np.ndarray, "N T"]
    attention_mask: Int64[np.ndarray, "N T"]
    token_type_ids: Int64[np.ndarray, "N T"]
    is_text: Bool[np.ndarray, "N T"]
    encodings: list[Encoding]


class Tokenizer:
    """Splits texts into word pieces as BERT does, and adds [CLS], [SEP] and a template.

    Without a template, the result equals that of Hugging Face's BertTokenizer. Instances can be
    pickled, and several threads can share one.
    """

    def __init__(
        self,
        path: str = "",
        max_tokens: int = 20,
        template: str = "{text}",
        *,
        punctuation: Punctuation = "keep",
        fixed_length: bool = False,
    ) -> None:
        """Load a vocabulary.

        Args:
            path: ``vocab.txt`` or ``tokenizer.json`` of a BERT, or their folder; empty:
                bert-base-uncased. See `load_word_pieces`.
            max_tokens: Maximum length of a text or pair, including special tokens and the template.
                Longer texts are truncated at the end; in a pair, the longer text is truncated. The
                template is never truncated.
            template: Words to add around each text, such as ``{text} ? [MASK]``. If a question mark
                follows ``{text}``, question marks at the end of texts are removed first.
            punctuation: ``visualbert``: remove commas and question marks from texts, and separate
                words from other characters.
            fixed_length: Pad to ``max_tokens`` instead of to the longest text in the batch.

        Raises:
            ValueError: The file is not a BERT vocabulary, or the template does not contain
                ``{text}`` exactly once or leaves no room for the text.

        Source:
            BERT (arXiv:1810.04805). Template: VisualBERT predicts the answer from the
            second-to-last token, uclanlp/visualbert visualbert/dataloaders/vqa_dataset.py.
            Punctuation: ``tokenize`` in the same file, which made Pythia's ``question_tokens``.
        """
        if template.count("{text}") != 1:
            raise ValueError(f"the template {template!r} must contain {{text}} exactly once")
        self._tokenizer = load_word_pieces(path)
        # As the vocabulary has them; `save` writes these.
        self._own = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        ids = {name: self._tokenizer.token_to_id(name) for name in SPECIAL}
        if missing := [name for name, token_id in ids.items() if token_id is None]:
            raise ValueError(
                f"{path} has no token {', '.join(missing)}; pass the vocabulary of a BERT"
            )
        self._ids = {name: token_id for name, token_id in ids.items() if token_id is not None}
        self.vocabulary_size: int = self._tokenizer.get_vocab_size()
        before, after = (part.strip() for part in template.split("{text}"))
        self._asks = after.startswith("?")
        self._surround(before, after)
        if punctuation == "visualbert":
            self._drop_punctuation()  # after _surround, which encodes the template's "?"
        space = max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if space < 1:
            raise ValueError(
                f"max_tokens={max_tokens} leaves no room for a text in the template {template!r}; "
                f"pass {max_tokens - space + 1} or more"
            )
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(
            pad_id=self._ids[PADDING],
            pad_token=PADDING,
            length=max_tokens if fixed_length else None,
        )

    def id_of(self, special: str) -> int:
        """Return the id of a special token, such as ``[MASK]``."""
        return self._ids[special]

    def __call__(self, texts: Sequence[str], second: Sequence[str] | None = None) -> Tokens:
        """Encode texts, or pairs of texts.

        Args:
            texts: At least one text.
            second: Second text of each pair; the template applies to the first text only.
        """
        if self._asks:
            # The template adds a question mark, so the text must not end with one.
            texts = [text.rstrip(" ?") for text in texts]
        pairs = texts if second is None else list(zip(texts, second, strict=True))
        encodings = self._tokenizer.encode_batch(list(pairs))
        attention_mask = np.array([encoding.attention_mask for encoding in encodings])
        # Words of the template are special tokens too, so they are never masked.
        special = np.array([encoding.special_tokens_mask for encoding in encodings])
        return Tokens(
            np.array([encoding.ids for encoding in encodings]),
            attention_mask,
            np.array([encoding.type_ids for encoding in encodings]),
            (attention_mask == 1) & (special == 0),
            encodings,
        )

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Convert ids to word pieces; unknown ids become ``[UNK]``."""
        return [self._tokenizer.id_to_token(int(number)) or UNKNOWN for number in ids]

    def _drop_punctuation(self) -> None:
        """Set up the library to read texts as VisualBERT's ``tokenize`` splits questions.

        The words around a removed comma are joined: "red,blue" becomes "redblue". As the library
        removes the characters, positions still refer to the original text.
        """
        backend = self._tokenizer
        remove: list[normalizers.Normalizer] = [normalizers.Replace(mark, "") for mark in ",?"]
        if backend.normalizer is not None:
            remove.append(backend.normalizer)
        backend.normalizer = normalizers.Sequence(remove)
        # What \W+ matches in Python. BERT alone would join symbols that are not punctuation, such
        # as the degree sign, to the word.
        words = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}_]+"), "isolated")
        split: list[pre_tokenizers.PreTokenizer] = [words]
        if backend.pre_tokenizer is not None:
            split.append(backend.pre_tokenizer)
        backend.pre_tokenizer = pre_tokenizers.Sequence(split)

    def save(self, folder: Path) -> None:
        """Write the vocabulary and its casing into a folder; see `save_word_pieces`."""
        plain = Library.from_str(self._tokenizer.to_str())
        plain.normalizer, plain.pre_tokenizer = self._own
        save_word_pieces(plain, folder)

    def _surround(self, before: str, after: str) -> None:
        """Set up the library to add [CLS], [SEP] and the template around each text.

        The words of the template are registered as special tokens, which are never truncated.
        """
        words, pieces = {START: [self._ids[START]], END: [self._ids[END]]}, []
        for name, text in (("before", before), ("after", after)):
            template_ids = (
                self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
            )
            if template_ids:
                words[name] = template_ids
            pieces.append([name] if template_ids else [])
        first = [START, *pieces[0], "$A", *pieces[1], END]
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=first,
            pair=[*(f"{piece}:0" for piece in first), "$B:1", f"{END}:1"],
            special_tokens=[
                {"id": name, "ids": ids, "tokens": self.tokens(ids)} for name, ids in words.items()
            ],
        )
