"""Texts as BERT's word pieces, in batches.

Shapes: N texts, T tokens padding included.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Bool, Int64
from tokenizers import Encoding, models, normalizers, pre_tokenizers, processors

UNKNOWN, PADDING, START, END, MASK = "[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PADDING, UNKNOWN, START, END, MASK)

# A batch is encoded in less time than it takes to wake a pool of threads up; and a process that
# has used the pool must not fork, as DataLoader's workers do.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Encoded texts, padded on the right.

    Attributes:
        input_ids: Tokens; padding is [PAD].
        attention_mask: 1 for real tokens, 0 for padding.
        token_type_ids: 1 for the second text of a pair.
        is_text: Whether the token is of a text: no padding, not [CLS] or [SEP] and not of the
            template. These tokens may be masked.
        encodings: What the tokenizers library gave: where each token is in its text.
    """

    input_ids: Int64[np.ndarray, "N T"]
    attention_mask: Int64[np.ndarray, "N T"]
    token_type_ids: Int64[np.ndarray, "N T"]
    is_text: Bool[np.ndarray, "N T"]
    encodings: list[Encoding]


class Tokenizer:
    """Splits texts into word pieces as BERT does, and puts [CLS], [SEP] and a template around them.

    Equal to Hugging Face's BertTokenizer; it can be pickled and used by several threads.
    """

    def __init__(
        self,
        path: str = "",
        max_tokens: int = 20,
        template: str = "{text}",
        *,
        fixed_length: bool = False,
    ) -> None:
        """Load a vocabulary.

        Args:
            path: ``vocab.txt`` (a word piece a line, lower-cased texts) or ``tokenizer.json`` (of
                BERT's kind). Empty: bert-base-uncased.
            max_tokens: Tokens of a text, or of a pair together, special ones and the template's
                included. The end of a longer text is cut off, never the template's; of a pair,
                the end of the longer one.
            template: What stands around a text, such as ``{text} ? [MASK]``. Where it goes on with
                a question mark, question marks at the text's end are not doubled.
            fixed_length: Pad to ``max_tokens``, not to the longest of a batch.

        Raises:
            ValueError: The file is no vocabulary of BERT's kind, or the template has no ``{text}``
                or leaves no room for it.

        Source:
            BERT (arXiv:1810.04805). The template: VisualBERT reads the answer from the token
            before the last, uclanlp/visualbert visualbert/dataloaders/vqa_dataset.py.
        """
        if template.count("{text}") != 1:
            raise ValueError(f"the template {template!r} has to have {{text}} in it, once")
        self._tokenizer = _load(path)
        ids = {name: self._tokenizer.token_to_id(name) for name in SPECIAL}
        if missing := [name for name, found in ids.items() if found is None]:
            raise ValueError(
                f"{path} has no token {', '.join(missing)}; give a vocabulary of BERT's kind"
            )
        self._ids = {name: found for name, found in ids.items() if found is not None}
        self.vocabulary_size: int = self._tokenizer.get_vocab_size()
        before, after = (part.strip() for part in template.split("{text}"))
        self._asks = after.startswith("?")
        self._surround(before, after)
        room = max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if room < 1:
            raise ValueError(
                f"max_tokens={max_tokens} leaves no room for a text in the template {template!r}; "
                f"give {max_tokens - room + 1} or more"
            )
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(
            pad_id=self._ids[PADDING],
            pad_token=PADDING,
            length=max_tokens if fixed_length else None,
        )

    def id_of(self, special: str) -> int:
        """Give the id of a special token, such as ``[MASK]``."""
        return self._ids[special]

    def __call__(self, texts: Sequence[str], second: Sequence[str] | None = None) -> Tokens:
        """Encode texts, or pairs of texts.

        Args:
            texts: At least one.
            second: The second text of each pair; the template is around the first one.
        """
        if self._asks:
            texts = [text.rstrip(" ?") for text in texts]
        pairs = texts if second is None else list(zip(texts, second, strict=True))
        encodings = self._tokenizer.encode_batch(list(pairs))
        attention_mask = np.array([encoding.attention_mask for encoding in encodings])
        special = np.array([encoding.special_tokens_mask for encoding in encodings])
        return Tokens(
            np.array([encoding.ids for encoding in encodings]),
            attention_mask,
            np.array([encoding.type_ids for encoding in encodings]),
            (attention_mask == 1) & (special == 0),
            encodings,
        )

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Give the word pieces of some ids."""
        return [self._tokenizer.id_to_token(int(number)) or UNKNOWN for number in ids]

    def _surround(self, before: str, after: str) -> None:
        """Put [CLS], [SEP] and the template around texts.

        The template's words are special tokens to the library: no text's length cuts them off.
        """
        words, pieces = {START: [self._ids[START]], END: [self._ids[END]]}, []
        for name, text in (("before", before), ("after", after)):
            found = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
            if found:
                words[name] = found
            pieces.append([name] if found else [])
        first = [START, *pieces[0], "$A", *pieces[1], END]
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=first,
            pair=[*(f"{piece}:0" for piece in first), "$B:1", f"{END}:1"],
            special_tokens=[
                {"id": name, "ids": ids, "tokens": self.tokens(ids)} for name, ids in words.items()
            ],
        )


def _load(path: str) -> tokenizers.Tokenizer:
    if path.endswith(".json"):
        try:
            return tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{path} is no tokenizer.json: {error}") from error
    if path:
        text = Path(path).read_text(encoding="utf-8")
    else:
        folder = resources.files("vlray.loader.vocabulary")
        text = folder.joinpath("bert_base_uncased.txt").read_text(encoding="utf-8")
    # Not splitlines: some pieces are separators of lines to Unicode.
    lines = re.sub(r"\r?\n\Z", "", text).split("\n")
    pieces = {piece.rstrip("\r"): number for number, piece in enumerate(lines)}
    model = models.WordPiece(pieces, unk_token=UNKNOWN, max_input_chars_per_word=100)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([name for name in SPECIAL if name in pieces])
    return tokenizer
