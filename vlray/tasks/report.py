"""Format the output of ``vlray datasets``: the catalogue, a dataset, the result of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from vlray.config.data import DataSection
from vlray.settings.text_table import align
from vlray.tasks import locate
from vlray.tasks.check import MissingImages, SplitReport
from vlray.tasks.examples import open_examples
from vlray.tasks.protocol import VisionLanguageDataset
from vlray.tasks.spec import DatasetSpec

SPLITS_SHOWN = 6


def catalogue_table(datasets: Sequence[VisionLanguageDataset], data: DataSection) -> str:
    """Format one line per dataset, with the splits whose files exist."""
    rows = [("name", "title", "purposes", "splits", "here")]
    for dataset in datasets:
        spec = dataset.spec
        here = [split for split in spec.splits if _is_here(dataset, split, data)]
        rows.append(
            (
                spec.name,
                spec.title,
                ", ".join(spec.purposes),
                _some(tuple(spec.splits)),
                "all" if len(here) == len(spec.splits) else " ".join(here) or "-",
            )
        )
    return "\n".join(align(rows))


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SPLITS_SHOWN} more" if names[SPLITS_SHOWN:] else ""
    return " ".join(names[:SPLITS_SHOWN]) + more


def _is_here(dataset: VisionLanguageDataset, split: str, data: DataSection) -> bool:
    files = locate.annotation_files(dataset, split, data)
    # A subset also needs the files of the split that it is a subset of.
    of = dataset.spec.splits[split].of
    return (
        bool(files)
        and all(file.path for file in files if file.required)
        and (not of or _is_here(dataset, of, data))
    )


def describe(dataset: VisionLanguageDataset, data: DataSection, only: str = "") -> str:
    """Describe a dataset, its files and one example, for all splits or for the split ``only``."""
    spec = dataset.spec
    facts = {
        "title": spec.title,
        "purposes": ", ".join(spec.purposes),
        "labels": _labels(spec),
        "metric": spec.metric,
        "licence": spec.licence,
        "home": spec.home,
        "cite": spec.cite,
        "layout": spec.layout,
        "images": f"image set {spec.image_set}, id rule {spec.id_rule}, folder "
        f"{locate.image_folder(spec, data)}",
        "annotations": f"folder {locate.annotation_folder(spec, data)}",
    }
    lines = [spec.name, *(f"  {name:12} {value}" for name, value in facts.items() if value)]
    for split in [only] if only else spec.splits:
        lines += ["", *_describe_split(dataset, split, data)]
    if example := _example(dataset, [only] if only else [*spec.splits], data):
        lines += ["", *example]
    return "\n".join(lines)


def _labels(spec: DatasetSpec) -> str:
    if spec.labels == "classes":
        return ", ".join(spec.classes)
    if spec.labels == "answers":
        return (
            f"answers that occur in at least {spec.min_frequency} examples, soft score "
            f"{spec.soft_score}"
        )
    return spec.labels


def _describe_split(dataset: VisionLanguageDataset, split: str, data: DataSection) -> list[str]:
    part = dataset.spec.splits[split]
    lines = [f"  split {split}"]
    for kind, selection in (
        ("the first", part.first_images),
        ("all but the first", part.except_images),
    ):
        if selection:
            lines.append(f"    of {part.of}: the examples of {kind} {selection[1]:,} images")
    lines += [_file_line(file) for file in locate.annotation_files(dataset, split, data)]
    if part.images:
        lines.append(f"    images in {', '.join(part.images)}")
    lines += [f"    download {address}" for address in part.download]
    return lines


def _file_line(file: locate.AnnotationFile) -> str:
    need = "" if file.required else " (optional)"
    state = file.path or f"{file.name} is missing: looked for {' and '.join(file.candidates)}"
    return f"    {file.role}{need}: {state}"


def _example(dataset: VisionLanguageDataset, splits: Sequence[str], data: DataSection) -> list[str]:
    """Format the first example of the first split, other than a subset, whose files exist."""
    for split in splits:
        if _is_here(dataset, split, data) and not dataset.spec.splits[split].of:
            examples = open_examples(dataset, split, data)
            if len(examples):
                return [f"  an example of {split}", *_fields(asdict(examples[0]), "    ")]
    return []


def _fields(values: dict[str, object], indent: str) -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _fields(value, indent)
        elif value not in (None, (), ""):
            text = ", ".join(map(str, value[:10])) if isinstance(value, tuple) else str(value)
            more = f" and {len(value) - 10} more" if isinstance(value, tuple) and value[10:] else ""
            lines.append(f"{indent}{name}: {text}{more}")
    return lines


def check_lines(report: SplitReport) -> list[str]:
    """Format the result of checking a split."""
    # Missing files are not listed here: the error names them and where to download them.
    lines = [report.name, *(_file_line(file) for file in report.files if file.path)]
    if report.table is None:
        return [*lines, *(f"    {line}" for line in report.error.splitlines())]
    lines.append(f"    {len(report.table):,} examples, {report.num_images:,} images")
    lines += [f"    {line}" for line in report.table.problems.lines()]
    if report.images is None:
        lines.append(f"    image files: the folder {report.image_folder} does not exist")
    else:
        lines.append(f"    image files: {_describe_missing(report.images, report.num_images)}")
    for missing in report.regions:
        lines.append(f"    regions: {_describe_missing(missing, report.num_images)}")
    return lines


def _describe_missing(missing: MissingImages, total: int) -> str:
    if missing.error:
        return f"cannot be compared, {missing.error}"
    if not missing.count:
        return f"all {total:,} are in {missing.where}"
    some = ", ".join(missing.examples)
    return f"{missing.count:,} of {total:,} are missing in {missing.where}, such as {some}"
