"""Base class of the HDF5 writers, and the writer for VOLTA's layout, with a group per image.

HDF5 changes its internal tables in place, so a process that is killed while the file grows may
corrupt the file. Therefore everything except the vectors is written first, and space is allocated
for the vectors. Filling that space later changes no table, and can be repeated after a kill.

Shapes: R: regions in one image; D: feature length.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from vlray.formats.writers.base import Export, State, check_ids, sizes_of
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.regions.schema import from_table
from vlray.settings.atomic import replacing, sync

_COLUMNS = (
    *("image_id", "image_height", "image_width", "num_boxes", "boxes"),
    *("obj_ids", "obj_probs", "attr_ids", "attr_probs"),
)


class Hdf5Base(Export):
    """Writer that fills a preallocated file with the vectors."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Create and preallocate the file, or resume an export.

        Raises:
            ValueError: The format cannot represent an image id.
        """
        check_ids(image_ids, self.problem)
        self._images = state["images"] if state else 0
        if not state:
            with replacing(path, exclusive=True) as growing, h5py.File(growing, "w") as file:
                self.allocate(file, output, image_ids)
        self._file = h5py.File(path, "r+")

    @staticmethod
    @abstractmethod
    def problem(image_id: str) -> str:
        """Return why the format cannot represent an image id; empty if it can."""

    @abstractmethod
    def allocate(self, file: h5py.File, output: RegionOutput, image_ids: list[str]) -> None:
        """Write everything except the vectors, and allocate space for the vectors."""

    @abstractmethod
    def fill(self, file: h5py.File, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors of one image into the allocated space."""

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors of the next image."""
        if len(regions.boxes):
            self.fill(self._file, image_id, regions)
        self._images += 1

    def commit(self) -> State:
        """Flush the vectors to disk, and return a state to resume from."""
        self._file.flush()
        sync(Path(self._file.filename))
        return {"images": self._images}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Hdf5Export(Hdf5Base):
    """Writer for VOLTA's layout.

    Source:
        e-bug/volta, features_extraction/detectron2_proposal_maxnms.py and large_tsv_to_h5.py.
    """

    @staticmethod
    def problem(image_id: str) -> str:
        """Refuse ids that are not names of HDF5 groups."""
        if not image_id or "/" in image_id or "\0" in image_id or image_id == ".":
            return (
                "is not a valid HDF5 group name ('/' separates nested groups); export to a folder "
                "or to OUT.tsv instead"
            )
        return ""

    def allocate(self, file: h5py.File, output: RegionOutput, image_ids: list[str]) -> None:
        """Create the groups of all images."""
        feature_dim = output[image_ids[0]].visual_feats.shape[1]
        for image_id, regions in rows_without_vectors(output, image_ids):
            group = file.create_group(image_id)
            count = len(regions.boxes)
            allocate(group, "features", (count, feature_dim))
            for name, values, kind in (
                ("obj_id", regions.obj_ids, "<i8"),
                ("obj_conf", regions.obj_probs, "<f4"),
                ("attr_id", regions.attr_ids, "<i8"),
                ("attr_conf", regions.attr_probs, "<f4"),
            ):
                # VOLTA's readers expect all label columns; its writer fills missing ones with 0.
                group[name] = np.zeros(count, kind) if values is None else values.astype(kind)
            group["boxes"] = regions.boxes
            group["img_h"], group["img_w"] = sizes_of(regions)

    def fill(self, file: h5py.File, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors of one image."""
        if regions.visual_feats.size:
            file[image_id]["features"][...] = regions.visual_feats.astype(np.float32)


def rows_without_vectors(
    output: RegionOutput, image_ids: list[str]
) -> Iterator[tuple[str, RegionBatch]]:
    """Yield the selected images in file order, with vectors of length 0."""
    selected = set(image_ids)
    for batch in output.iter_batches(_COLUMNS, batch_size=1024):
        for row, image_id in enumerate(batch.column("image_id").to_pylist()):
            if image_id in selected:
                yield image_id, from_table(batch.slice(row, 1))


def allocate(group: h5py.Group, name: str, shape: tuple[int, ...]) -> None:
    """Create a float32 dataset, and allocate its space in the file immediately."""
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_layout(h5py.h5d.CONTIGUOUS)
    created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Filling the space with zeros would write it twice.
    created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # Without time stamps, equal exports are equal files.
    created.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, created)
