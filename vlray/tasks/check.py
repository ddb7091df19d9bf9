"""Check a split's annotation files, examples, image files and regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from vlray.config.data import DataSection
from vlray.images.ids import image_ids
from vlray.images.sources.directory import Walk
from vlray.regions.output import open_output
from vlray.storage import files
from vlray.tasks.examples import ExampleTable, open_examples
from vlray.tasks.locate import AnnotationFile, annotation_files, exists, image_folder, join
from vlray.tasks.problems import EXAMPLES_SHOWN
from vlray.tasks.protocol import VisionLanguageDataset


@dataclass(frozen=True)
class MissingImages:
    """Images of a split that are missing from a folder or a region output."""

    where: str
    count: int
    examples: tuple[str, ...]
    error: str = ""
    """Why the comparison failed; empty if it succeeded."""

    @property
    def is_wrong(self) -> bool:
        """Whether any image is missing, or the comparison failed."""
        return self.count > 0 or bool(self.error)


@dataclass
class SplitReport:
    """Result of checking a split."""

    name: str
    files: list[AnnotationFile]
    error: str = ""
    """Why the examples cannot be read; empty if they can."""

    table: ExampleTable | None = None
    num_images: int = 0
    images: MissingImages | None = None
    """Missing image files; None if the image folder does not exist or ``error`` is set."""

    image_folder: str = ""
    regions: list[MissingImages] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the split has examples and nothing is missing or broken.

        The image folder need not exist. Invalid boxes do not count: official files have some.
        """
        missing = [*([self.images] if self.images else []), *self.regions]
        return (
            self.table is not None
            and len(self.table) > 0
            and not self.table.problems.left_out
            and not any(images.is_wrong for images in missing)
        )


def check_split_files(
    dataset: VisionLanguageDataset, split: str, data: DataSection, regions: Sequence[str]
) -> SplitReport:
    """Check one split.

    Args:
        dataset: The dataset.
        split: Name of a split of the dataset.
        data: Folders with annotations and images.
        regions: Folders or URIs of region outputs, each of which should cover all images of the
            split.

    Raises:
        ValueError: An entry of ``regions`` is not a region output.
    """
    spec = dataset.spec
    folder = image_folder(spec, data)
    report = SplitReport(
        f"{spec.name}:{split}",
        annotation_files(dataset, split, data),
        image_folder=folder,
    )
    try:
        # Skip the problems, to report all of them.
        table = open_examples(dataset, split, data.model_copy(update={"on_bad": "skip"}))
    except FileNotFoundError as error:  # the message already names the split
        report.error = str(error)
        return report
    except ValueError as error:
        report.error = f"{report.name} cannot be read: {error}"
        return report
    # Count images, not references to them: many examples may share an image.
    ids = pc.unique(pc.list_flatten(table.column("image_ids")))
    report.table, report.num_images = table, len(ids)
    # Annotations can be checked before the images are downloaded.
    if exists(folder):
        report.images = _missing_files(ids, folder, spec.splits[split].images, spec.id_rule)
    for output in regions:
        report.regions.append(_compare(ids, open_output(output).image_ids, output))
    return report


def _missing_files(ids: pa.Array, folder: str, below: tuple[str, ...], rule: str) -> MissingImages:
    """Find the images of a split that have no file in the split's image folders.

    If none of these folders exists, only files directly in the image set's folder are considered:
    its subfolders belong to other splits, and COCO's years share ids.
    """
    existing = [name for name in below if exists(join(folder, name))]
    fs, path = files.resolve(folder)
    # Nothing is left out: no output of vlray is expected among a dataset's images.
    walk = Walk(fs, path, follow_symlinks=True, leave_out="")
    try:
        with files.explained(folder):
            paths = sorted(path for path, _ in walk.images(existing))
        if below and not existing:
            paths = [path for path in paths if "/" not in path]
        available = image_ids(paths, rule)
    except ValueError as error:
        return MissingImages(folder, 0, (), str(error))
    return _compare(ids, available, folder)


def _compare(ids: pa.Array, available: Sequence[str], where: str) -> MissingImages:
    missing = ids.filter(pc.invert(pc.is_in(ids, value_set=pa.array(available, pa.string()))))
    return MissingImages(where, len(missing), tuple(missing[:EXAMPLES_SHOWN].to_pylist()))
