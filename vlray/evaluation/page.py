"""The HTML page of a test: right and wrong examples with their regions, and all metrics."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vlray.evaluation.inputs import Test
from vlray.evaluation.report import MetricRow, interval_text, is_percent, number
from vlray.evaluation.sample_types import Image, Phrase, Sample
from vlray.pages.palette import page_color
from vlray.pages.pictures import Picture, read_thumbnails
from vlray.pages.render import Total, render_page
from vlray.regions.output import open_output
from vlray.settings.json_value import JsonObject
from vlray.tasks.answers import normalize_answer
from vlray.tasks.example import Answers, Choices, Example

KINDS = ("answer_type", "question_type", "structural", "semantic", "organ")
"""Example attributes that the page has filters for."""

SCRIPTS = (
    *(f"pages/js/{name}.js" for name in ("elements", "tabs", "pictures", "browse")),
    *(f"evaluation/js/{name}.js" for name in ("pictures", "words", "filters", "large", "main")),
)
HEADLINES = 4  # metrics in the header


def render(
    tested: Test,
    samples: Sequence[Sample],
    rows: Sequence[MetricRow],
    notes: Sequence[str],
    images_root: str,
    baseline: str = "",
) -> tuple[bytes, list[str]]:
    """Render the page.

    Args:
        tested: Inputs of the test.
        samples: Examples on the page.
        rows: Metrics, overall and by group.
        notes: Remarks on the metrics.
        images_root: Folder or URI of the images; empty: the folder they were extracted from.
        baseline: Column heading for ``MetricRow.baseline``; empty: no baseline.

    Returns:
        The page, and one message for each image that cannot be read.
    """
    images = {
        (image.regions, image.image_id): image for sample in samples for image in sample.images
    }
    pictures = _thumbnails(tested, images, images_root)
    numbers = {key: number for number, key in enumerate(images)}
    labels = sorted({label for image in images.values() for label in image.labels if label})
    # Boxes refer to labels by index, which keeps the page small.
    label_indices = {label: index for index, label in enumerate(labels)}

    def image_data(image: Image) -> JsonObject:
        key = image.regions, image.image_id
        missing = pictures[key].thumbnail is None
        return {"thumbnail": numbers[key], "missing": missing} | _image(image, label_indices)

    overall = [row for row in rows if not row.group]
    groups: dict[str, list[JsonObject]] = {}
    for row in rows:
        name = f"By {row.group.replace('_', ' ')}" if row.group else "Overall"
        groups.setdefault(name, []).append(_table_row(row, bool(baseline)))
    data: JsonObject = {
        "examples": [
            _example(sample)
            # In retrieval, the candidates already mark the right image.
            | {"truth": [] if tested.is_retrieval else _right_answers(sample.example)}
            | {"images": [image_data(image) for image in sample.images]}
            for sample in samples
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
        examples=len(samples),
        notes=notes,
        headings=["", "Value", "95 % interval", "n", *([baseline] if baseline else []), ""],
        groups=groups,
        settings=_settings(tested),
    )
    return page, [picture.problem for picture in pictures.values() if picture.thumbnail is None]


def _thumbnails(
    tested: Test, images: Iterable[tuple[str, str]], images_root: str
) -> dict[tuple[str, str], Picture]:
    """Make the thumbnail of each image once, from the path stored in its output."""
    pictures: dict[tuple[str, str], Picture] = {}
    # Read all paths of an output at once: one read per image would reopen its files every time.
    for name, store in tested.dataset.stores.items():
        ids = [image_id for regions, image_id in images if regions == name]
        if not ids:
            continue
        output = open_output(store.output)
        paths = output.read(ids, ["path"])["path"].to_pylist()
        for image_id, picture in zip(ids, read_thumbnails(output, paths, images_root), strict=True):
            pictures[name, image_id] = picture
    return pictures


def _table_row(row: MetricRow, has_baseline: bool) -> JsonObject:
    """Format a row of the metrics table: its cells, and the value and interval for its bar."""
    count = f"{row.count:,}" if row.count else ""
    cells = [row.name, number(row), interval_text(row), count]
    if has_baseline:
        cells.append("" if row.baseline is None else number(row, row.baseline))
    # Without an interval, the bar shows one of zero width.
    interval = row.interval or (row.value, row.value)
    # Only percentages fit the scale that the bars share.
    return {"cells": cells, "bar": (row.value, *interval) if is_percent(row) else ()}


def _example(sample: Sample) -> JsonObject:
    example = sample.example
    return {
        "id": example.example_id,
        "text": example.text,
        "about": [example.about.get(kind, "") for kind in KINDS],
        "score": sample.score,
        "candidates": [
            # Rounded, because the page holds every number as text.
            [one.name, round(one.probability, 5), one.score]
            for one in sample.candidates
        ],
        "phrases": [_phrase(phrase) for phrase in sample.phrases],
    }


def _right_answers(example: Example) -> list[list[str]]:
    """List the right answers, each with its score or the number of annotators who gave it."""
    label = example.label
    if isinstance(label, Choices):
        return [[label.texts[label.correct], ""]] if label.correct >= 0 else []
    if not isinstance(label, Answers):
        return []
    if label.scores:
        pairs = sorted(zip(label.answers, label.scores, strict=True), key=lambda pair: -pair[1])
        return [[name, f"{value:g}"] for name, value in pairs]
    # For a single annotation, "1 of 1" would say nothing.
    if len(label.answers) == 1:
        return [[label.answers[0], ""]]
    # Annotators may spell the same answer differently.
    counts = Counter(map(normalize_answer, label.answers)).most_common()
    return [[name, f"{count} of {len(label.answers)}"] for name, count in counts]


def _phrase(phrase: Phrase) -> JsonObject:
    return {
        "span": list(phrase.span),
        "predicted": None if phrase.predicted is None else _rounded(phrase.predicted),
        "right": [_rounded(box) for box in phrase.right],
        "hit": phrase.is_hit,
    }


def _rounded(box: Iterable[float]) -> list[float]:
    # A tenth of a pixel is more than the page can show.
    return [round(float(value), 1) for value in box]


def _image(image: Image, label_indices: Mapping[str, int]) -> JsonObject:
    """List the boxes as the script expects them: corners, label index and attention."""
    attention: Sequence[float | None] = image.attention or [None] * len(image.boxes)
    labels = image.labels or ("",) * len(image.boxes)
    return {
        "id": image.image_id,
        "size": list(image.size),
        "caption": image.caption,
        "boxes": [
            [
                *_rounded(box),
                label_indices.get(label, -1),
                None if share is None else round(share, 5),
            ]
            for box, label, share in zip(image.boxes.tolist(), labels, attention, strict=True)
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
    """Collect the rows of the settings tab."""
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
