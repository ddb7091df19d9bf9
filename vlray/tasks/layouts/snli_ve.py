"""SNLI-VE: whether a photograph from Flickr30k entails a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import about, examples, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, json_lines
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"examples": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read SNLI-VE. The text is the hypothesis; the image is the premise.

    ``about`` has ``premise``: the caption that SNLI uses as the premise.

    Args:
        files: ``examples``: on each line ``{"pairID", "Flickr30K_ID" (``Flikr30kID`` in older
            files), "gold_label", "sentence1", "sentence2", ...}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://github.com/necla-ml/SNLI-VE (its generator writes ``Flickr30K_ID``);
        facebookresearch/mmf, mmf/datasets/builders/visual_entailment/dataset.py (older key).
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        # The key is misspelt in older files.
        key = "Flikr30kID" if "Flikr30kID" in entry else "Flickr30K_ID"
        fields = about(entry, "sentence1")
        return Example(
            example_id=text_of(entry, "pairID"),
            text=text_of(entry, "sentence2"),
            image_ids=(image_id(image_of(entry, key)),),
            label=Answers((text_of(entry, "gold_label"),)) if "gold_label" in entry else None,
            about={"premise": fields["sentence1"]} if fields else {},
        )

    for path in files["examples"]:
        yield from examples(json_lines(path, problems), make, path, problems)
