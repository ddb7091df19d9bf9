"""Look at a split: its files, its examples, its images, the regions of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from vlray.config.data import DataSection
from vlray.images.ids import image_ids
from vlray.images.walk import Walk
from vlray.regions.output import open_output
from vlray.storage import files
from vlray.tasks.examples import ExampleTable, open_examples
from vlray.tasks.locate import Wanted, exists, image_folder, join, wanted_files
from vlray.tasks.problems import EXAMPLES_SHOWN, DataError
from vlray.tasks.protocol import VisionLanguageDataset


@dataclass(frozen=True)
class Absent:
    """Images of a split that something does not have."""

    where: str
    count: int
    examples: tuple[str, ...]
    why: str = ""
    """Why it could not be looked at; empty: it was."""

    @property
    def is_wrong(self) -> bool:
        """Whether any is missing."""
        return self.count > 0 or bool(self.why)


@dataclass
class SplitReport:
    """What was found of a split."""

    name: str
    wanted: list[Wanted]
    error: str = ""
    """Why there are no examples; empty: there are."""

    table: ExampleTable | None = None
    num_images: int = 0
    images: Absent | None = None
    """Image files that are not there; None: neither is their folder."""

    image_folder: str = ""
    regions: list[Absent] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing or broken; a folder of images may be elsewhere."""
        absent = [*([self.images] if self.images else []), *self.regions]
        return (
            self.table is not None
            and len(self.table) > 0
            and "broken-line" not in self.table.problems.counts
            and not any(found.is_wrong for found in absent)
        )


def check_split_files(
    dataset: VisionLanguageDataset, split: str, data: DataSection, regions: Sequence[str]
) -> SplitReport:
    """Look at one split.

    Args:
        dataset: The dataset.
        split: One of its splits.
        data: Where files are.
        regions: Region outputs, folders or URIs; an image is missing in each that lacks it.

    Raises:
        ValueError: A region output is none.
    """
    spec = dataset.spec
    folder = image_folder(spec, data)
    report = SplitReport(
        f"{spec.name}:{split}",
        wanted_files(dataset, split, data),
        image_folder=folder,
    )
    try:
        table = open_examples(dataset, split, data)
    except (DataError, FileNotFoundError) as error:
        report.error = str(error)
        return report
    except ValueError as error:
        report.error = f"{report.name} cannot be read: {error}"
        return report
    ids = pc.unique(pc.list_flatten(table.column("image_ids")))
    report.table, report.num_images = table, len(ids)
    if exists(folder):
        report.images = _missing_files(ids, folder, spec.splits[split].images, spec.id_rule)
    for output in regions:
        report.regions.append(_absent(ids, open_output(output).image_ids, output))
    return report


def _missing_files(ids: pa.Array, folder: str, below: tuple[str, ...], rule: str) -> Absent:
    """Compare the images of a split with the files of its folders.

    Where none of its folders is there, the images may be right in the set's folder: those of other
    splits, in folders of their own, are not looked at then (COCO's years share their ids).
    """
    there = [name for name in below if exists(join(folder, name))]
    fs, path = files.resolve(folder)
    walk = Walk(fs, path, follow_symlinks=True, leave_out="")
    try:
        with files.explained(folder):
            paths = sorted(path for path, _ in walk.images(there))
        if below and not there:
            paths = [path for path in paths if "/" not in path]
        found = image_ids(paths, rule)
    except ValueError as error:
        return Absent(folder, 0, (), str(error))
    return _absent(ids, found, folder)


def _absent(ids: pa.Array, found: Sequence[str], where: str) -> Absent:
    missing = ids.filter(pc.invert(pc.is_in(ids, value_set=pa.array(found, pa.string()))))
    return Absent(where, len(missing), tuple(missing[:EXAMPLES_SHOWN].to_pylist()))
