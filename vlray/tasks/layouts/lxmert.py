"""LXMERT's files: questions with soft labels, pretraining sentences, image orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import (
    FieldError,
    about,
    examples,
    id_of,
    image_namer,
    image_of,
    text_of,
)
from vlray.tasks.layouts.documents import Entry, items, open_bytes
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

_Roles = Mapping[str, Literal["required", "optional"]]
ROLES: Mapping[str, _Roles] = {
    "read": {"questions": "required"},
    "pretraining": {"sentences": "required"},
}

Scores = Mapping[str, float]


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read LXMERT's question files for VQA or GQA, such as ``minival.json`` or ``valid.json``.

    Args:
        files: ``questions``: ``[{"question_id", "img_id", "sent", "label": {"answer": score},
            "answer_type", "question_type"}]``; test files have no ``label``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, which is applied to ``img_id`` (``COCO_val2014_000000262148``).

    Raises:
        ValueError: The file has the wrong format.

    Source:
        airsplay/lxmert, src/tasks/vqa_data.py, src/tasks/gqa_data.py and data/gqa.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        return Example(
            example_id=id_of(entry, "question_id"),
            text=text_of(entry, "sent"),
            image_ids=(image_id(image_of(entry, "img_id")),),
            label=_label(entry.get("label")),
            about=about(entry, "question_type", "answer_type"),
        )

    for path in files["questions"]:
        yield from examples(items(path, "item", problems), make, path, problems)


def pretraining(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the sentences that LXMERT was pretrained on, one example per sentence.

    The id of an example is LXMERT's ``uid``: ``COCO_train2014_000000318556_vqa_000``.

    Args:
        files: ``sentences``: ``[{"img_id", "sentf": {"vqa": [sentence]}, "labelf": {"vqa":
            [{"answer": score}]}}]``: sentences keyed by source. ``vqa``, ``gqa`` and ``vgqa`` have
            labels, ``mscoco`` and ``vg`` do not.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, and optionally ``source``: read only the sentences of this source.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        airsplay/lxmert, src/pretrain/lxmert_data.py.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        sentence = text_of(entry, "sent")
        image = image_of(entry, "img_id")
        return Example(
            example_id=f"{image}_{entry['source']}_{entry['index']:03d}",
            text=sentence,
            image_ids=(image_id(image),),
            label=_label(entry["label"]),
            about={"source": entry["source"]},
        )

    for path in files["sentences"]:
        entries = _sentences(items(path, "item", problems), options.get("source", ""))
        yield from examples(entries, make, path, problems)


def _sentences(entries: Iterator[Entry], only: str) -> Iterator[Entry]:
    for entry in entries:
        sources = entry.get("sentf")
        if not isinstance(sources, dict) or not all(map(_is_list, sources.values())):
            yield entry  # cannot be converted to an example, so it is counted as a problem
            continue
        for source, sentences in sources.items():
            if only in ("", source):
                labels = (entry.get("labelf") or {}).get(source, [])
                # ``mscoco`` and ``vg`` have no labels. LXMERT's uid counts sentences per source.
                for index, sentence in enumerate(sentences):
                    yield {
                        "img_id": entry.get("img_id"),
                        "source": source,
                        "index": index,
                        "sent": sentence,
                        "label": labels[index] if index < len(labels) else None,
                    }


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _label(scores: Scores | None) -> Answers | None:
    if scores is None:
        return None
    if not isinstance(scores, Mapping):
        raise FieldError(f"label is a {type(scores).__name__}, not answers with their scores")
    return Answers(tuple(scores), tuple(float(score) for score in scores.values()))


def read_image_order(path: str, id_rule: str = "stem") -> Iterator[str]:
    """Yield the image ids in a file, in the order of the file and without duplicates.

    LXMERT's minival consists of the first 5,000 images in LXMERT's ``val2014_obj36.tsv``; no other
    file has that order. ``minival.json`` names the same images in another order.

    Args:
        path: A ``.tsv`` feature file (only the first column is used), one of LXMERT's ``.json``
            files, or a text file with one image name or id per line.
        id_rule: Id rule of the dataset.

    Raises:
        ValueError: A JSON file has the wrong format or broken entries, or the id rule does not
            apply to a name.

    Source:
        airsplay/lxmert, src/tasks/vqa_data.py (``load_topk = 5000 if split == 'minival'``).
    """
    image_id = image_namer({"id_rule": id_rule})
    seen: set[str] = set()
    for name in _names(path):
        unique_id = image_id(name)
        if unique_id not in seen:
            seen.add(unique_id)
            yield unique_id


def _names(path: str) -> Iterator[str]:
    if path.endswith(".json"):
        problems = Problems()
        for entry in items(path, "item", problems):
            yield image_of(entry, "img_id")
        problems.check("stop", path)  # an incomplete order would define another split
        return
    with open_bytes(path) as stream:
        for line in stream:
            # The rest of a line in a feature file is base64, so only the id is decoded.
            if name := line.partition(b"\t")[0].decode().strip():
                yield name
