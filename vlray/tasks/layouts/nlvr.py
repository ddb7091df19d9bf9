"""Cornell's visual reasoning datasets: NLVR (drawings) and NLVR2 (pairs of photographs)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import FieldError, about, examples, id_of, image_namer, text_of
from vlray.tasks.layouts.documents import Entry, json_lines
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

_Roles = Mapping[str, Literal["required", "optional"]]
ROLES: Mapping[str, _Roles] = {
    "drawings": {"examples": "required"},
    "pairs": {"examples": "required"},
}

ORDERS = 6
"""Images per NLVR sentence: one for each order of the three boxes in the drawing."""


def drawings(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read NLVR: one example per image, six per sentence, as in the official evaluation.

    An example's id is the name of its image, ``dev-1085-3-0``: split, set, position, order.
    ``about`` has ``identifier`` (``1085-3``), ``order``, ``group`` (the set, which is consistent
    if all its answers are correct) and ``directory`` (image folder, for the folds of ``train``).

    Args:
        files: ``examples``: on each line ``{"sentence", "identifier", "label", "directory",
            "structured_rep", "evals"}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, and ``split``: first part of the image names.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        lil-lab/nlvr, nlvr/README.md (image names; one prediction per PNG file) and
        nlvr/metrics_structured_rep.py (consistency).
    """
    image_id = image_namer(options)
    split = options["split"]

    def make(entry: Entry) -> Example:
        identifier = text_of(entry, "identifier")
        if identifier.count("-") != 1:  # NLVR2's have four parts
            raise FieldError(f"identifier {identifier!r:.40} is not set-position")
        name = f"{split}-{identifier}-{entry['order']}"
        fields = about(entry, "identifier", "order", "directory")
        return Example(
            example_id=name,
            text=text_of(entry, "sentence"),
            image_ids=(image_id(f"{name}.png"),),
            label=_label(entry),
            about={**fields, "group": identifier.partition("-")[0]},
        )

    for path in files["examples"]:
        lines = json_lines(path, problems)
        # Each line stands for six images, which only differ in the order of the boxes.
        drawn = ({**entry, "order": order} for entry in lines for order in range(ORDERS))
        yield from examples(drawn, make, path, problems)


def pairs(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read NLVR2: sentences about a left and a right image.

    The images of ``dev-850-0-1`` (split, set, pair, sentence) are ``dev-850-0-img0`` and
    ``dev-850-0-img1``. ``about`` has ``group`` (all pairs with the same sentence, ``dev-850--1``,
    for consistency), ``synset``, ``query`` and ``directory`` (a fold of ``train``).

    Args:
        files: ``examples``: on each line ``{"sentence", "identifier", "label", "synset", "query",
            "left_url", "right_url", ...}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        lil-lab/nlvr, nlvr2/README.md and nlvr2/eval/metrics.py (consistency); airsplay/lxmert,
        data/nlvr2/process_raw_data_scripts/process_dataset.py (images).
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        identifier = id_of(entry, "identifier")
        parts = identifier.split("-")
        if len(parts) != 4:
            raise FieldError(f"identifier {identifier!r} is not split-set-pair-sentence")
        stem = "-".join(parts[:3])
        return Example(
            example_id=identifier,
            text=text_of(entry, "sentence"),
            image_ids=(image_id(f"{stem}-img0.png"), image_id(f"{stem}-img1.png")),
            label=_label(entry),
            about={
                **about(entry, "synset", "query", "directory"),
                # The identifier without the pair: what all pairs of a sentence share.
                "group": f"{parts[0]}-{parts[1]}--{parts[3]}",
            },
        )

    for path in files["examples"]:
        yield from examples(json_lines(path, problems), make, path, problems)


def _label(entry: Entry) -> Answers | None:
    return Answers((text_of(entry, "label"),)) if "label" in entry else None
