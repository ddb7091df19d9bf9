"""The page of a test: right and wrong examples with their regions, and all figures."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlray.evaluation.inputs import Test
from vlray.evaluation.report import Figure, interval_text, is_percent, number
from vlray.evaluation.samples import Image, Phrase, Shown
from vlray.pages.palette import page_color
from vlray.pages.pictures import Picture, read_thumbnails
from vlray.pages.render import Total, render_page
from vlray.regions.output import open_output
from vlray.tasks.answers import normalize_answer
from vlray.tasks.example import Answers, Choices, Example

KINDS = ("answer_type", "question_type", "structural", "semantic", "organ")
"""What examples are filtered by, where they have it."""

SCRIPTS = (
    *(f"pages/js/{name}.js" for name in ("elements", "tabs", "pictures", "browse")),
    *(f"evaluation/js/{name}.js" for name in ("pictures", "words", "filters", "large", "main")),
)
HEADLINES = 4


def render(
    tested: Test,
    shown: Sequence[Shown],
    figures: Sequence[Figure],
    notes: Sequence[str],
    images_root: str,
    baseline: str = "",
) -> tuple[bytes, list[str]]:
    """Make the page.

    Args:
        tested: What was tested.
        shown: The examples.
        figures: Overall and by group.
        notes: What is to be known of them.
        images_root: Where the images are now; where they were at the extraction, if empty.
        baseline: What ``Figure.baseline`` is of; empty: there is none.

    Returns:
        The page, and why images cannot be read any more, one sentence for each of them.
    """
    images = {
        (image.regions, image.image_id): image for example in shown for image in example.images
    }
    pictures = _thumbnails(tested, images, images_root)
    numbers = {key: number for number, key in enumerate(images)}
    labels = sorted({label for image in images.values() for label in image.labels if label})
    places = {label: place for place, label in enumerate(labels)}

    def image_data(image: Image) -> dict[str, Any]:
        key = image.regions, image.image_id
        missing = pictures[key].thumbnail is None
        return {"thumbnail": numbers[key], "missing": missing} | _image(image, places)

    overall = [figure for figure in figures if not figure.group]
    groups: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        name = f"By {figure.group.replace('_', ' ')}" if figure.group else "Overall"
        groups.setdefault(name, []).append(_row(figure, bool(baseline)))
    data: dict[str, Any] = {
        "examples": [
            _example(one)
            | {"given": [] if tested.is_retrieval else _given(one.example)}
            | {"images": [image_data(image) for image in one.images]}
            for one in shown
        ],
        "kinds": list(KINDS),
        "labels": labels,
        "colors": [page_color(label) for label in labels],
        "plain_color": page_color(""),
    }
    page = render_page(
        "evaluation/page.html",
        title=f"{tested.table.name} by {tested.info.model.name}",
        heading=tested.table.name,
        subtitle=_subtitle(tested),
        totals=[
            *(Total(one.name, number(one), interval_text(one)) for one in overall[:HEADLINES]),
            Total("examples", f"{len(tested.dataset):,}"),
        ],
        scripts=SCRIPTS,
        data=data,
        thumbnails=[pictures[key].thumbnail for key in images],
        examples=len(shown),
        notes=notes,
        headings=["", "Value", "95 % interval", "n", *([baseline] if baseline else []), ""],
        groups=groups,
        settings=_settings(tested),
    )
    return page, [picture.problem for picture in pictures.values() if picture.thumbnail is None]


def _thumbnails(
    tested: Test, images: Iterable[tuple[str, str]], images_root: str
) -> dict[tuple[str, str], Picture]:
    """Read each image once, where its regions' output says that it is."""
    found: dict[tuple[str, str], Picture] = {}
    for name, store in tested.dataset.stores.items():
        ids = [image_id for regions, image_id in images if regions == name]
        if not ids:
            continue
        output = open_output(store.output)
        paths = output.read(ids, ["path"])["path"].to_pylist()
        for image_id, picture in zip(ids, read_thumbnails(output, paths, images_root), strict=True):
            found[name, image_id] = picture
    return found


def _row(figure: Figure, has_baseline: bool) -> dict[str, Any]:
    """Make a row of a table of figures: its cells, and the value and interval of its bar."""
    count = f"{figure.count:,}" if figure.count else ""
    cells = [figure.name, number(figure), interval_text(figure), count]
    if has_baseline:
        cells.append("" if figure.baseline is None else number(figure, figure.baseline))
    interval = figure.interval or (figure.value, figure.value)
    return {"cells": cells, "bar": (figure.value, *interval) if is_percent(figure) else ()}


def _example(shown: Shown) -> dict[str, Any]:
    example = shown.example
    return {
        "id": example.example_id,
        "text": example.text,
        "about": [example.about.get(kind, "") for kind in KINDS],
        "score": shown.score,
        "candidates": [
            [one.name, round(one.probability, 5), one.score] for one in shown.candidates
        ],
        "phrases": [_phrase(phrase) for phrase in shown.phrases],
    }


def _given(example: Example) -> list[list[str]]:
    """List the right answers and how many people gave each, or the score that each has."""
    label = example.label
    if isinstance(label, Choices):
        return [[label.texts[label.correct], ""]] if label.correct >= 0 else []
    if not isinstance(label, Answers):
        return []
    if label.scores:
        pairs = sorted(zip(label.answers, label.scores, strict=True), key=lambda pair: -pair[1])
        return [[name, f"{value:g}"] for name, value in pairs]
    if len(label.answers) == 1:
        return [[label.answers[0], ""]]
    counts = Counter(map(normalize_answer, label.answers)).most_common()
    return [[name, f"{count} of {len(label.answers)}"] for name, count in counts]


def _phrase(phrase: Phrase) -> dict[str, Any]:
    return {
        "span": list(phrase.span),
        "predicted": None if phrase.predicted is None else _rounded(phrase.predicted),
        "right": [_rounded(box) for box in phrase.right],
        "hit": phrase.is_hit,
    }


def _rounded(box: Iterable[float]) -> list[float]:
    return [round(float(value), 1) for value in box]


def _image(image: Image, places: Mapping[str, int]) -> dict[str, Any]:
    """List each box as corners, label and attention, as the script reads them."""
    looked: Sequence[float | None] = image.attention or [None] * len(image.boxes)
    labels = image.labels or ("",) * len(image.boxes)
    return {
        "id": image.image_id,
        "size": list(image.size),
        "caption": image.caption,
        "boxes": [
            [*_rounded(box), places.get(label, -1), None if share is None else round(share, 5)]
            for box, label, share in zip(image.boxes.tolist(), labels, looked, strict=True)
        ],
    }


def _subtitle(tested: Test) -> str:
    detectors = {
        str(store.provenance.get("detector_name") or "an unnamed detector")
        for store in tested.dataset.stores.values()
    }
    return (
        f"{'Retrieval' if tested.is_retrieval else 'Answers'} by {tested.info.model.name}, step "
        f"{tested.info.step:,}, from regions of {' and '.join(sorted(detectors))}, "
        f"{datetime.date.today().isoformat()}"
    )


def _settings(tested: Test) -> list[list[str]]:
    """Collect what the last tab shows."""
    info = tested.info
    settings = {
        "checkpoint": str(tested.folder),
        "model": info.model.name,
        "trained on": info.corpus,
        "objective": info.goal.objective,
        "step": f"{info.step:,}",
        "epoch": f"{info.epoch:.2f}",
        "labels": f"{len(info.goal.labels):,}",
        **{f"regions {name}".strip(): s.output for name, s in tested.dataset.stores.items()},
        **{f"batches: {name}": value for name, value in info.loader.model_dump().items()},
        "vlray": info.vlray_version,
        "page made": datetime.date.today().isoformat(),
    }
    return [[name, str(value)] for name, value in settings.items()]
