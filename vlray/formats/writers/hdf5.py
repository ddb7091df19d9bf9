"""Writer for VOLTA's HDF5 layout, with a group per image.

HDF5 changes its internal tables in place, so a process that is killed while the file grows may
corrupt the file. Therefore everything except the vectors is written first, and space is allocated
for the vectors. Filling that space later changes no table, and can be repeated after a kill.

Source:
    e-bug/volta, features_extraction/detectron2_proposal_maxnms.py and large_tsv_to_h5.py.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.regions.schema import from_table
from vlray.settings.atomic import replacing, sync

_COLUMNS = (
    *("image_id", "image_height", "image_width", "num_boxes", "boxes"),
    *("obj_ids", "obj_probs", "attr_ids", "attr_probs"),
)


class Hdf5Export:
    """Writer that fills a preallocated file with the vectors."""

    def __init__(
        self,
        path: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Create and preallocate the file, or resume an export.

        Raises:
            ValueError: An image id cannot be the name of an HDF5 group.
        """
        for image_id in image_ids:
            if not image_id or "/" in image_id or "\0" in image_id or image_id == ".":
                raise ValueError(
                    f"the image id {image_id!r} is not a valid HDF5 group name ('/' separates "
                    "nested groups); export to a folder or to OUT.tsv instead"
                )
        self._images = state["images"] if state else 0
        if not state:
            _preallocate(path, output, image_ids)
        self._file = h5py.File(path, "r+")

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors of the next image."""
        if regions.visual_feats.size:
            self._file[image_id]["features"][...] = regions.visual_feats.astype(np.float32)
        self._images += 1

    def commit(self) -> dict[str, int]:
        """Flush the vectors to disk, and return a state to resume from."""
        self._file.flush()
        sync(Path(self._file.filename))
        return {"images": self._images}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _preallocate(path: Path, output: RegionOutput, image_ids: list[str]) -> None:
    """Write everything except the vectors, and allocate space for the vectors."""
    selected = set(image_ids)
    feature_dim = output[image_ids[0]].visual_feats.shape[1]
    with replacing(path, exclusive=True) as growing, h5py.File(growing, "w") as file:
        for batch in output.iter_batches(_COLUMNS, batch_size=1024):
            for row, image_id in enumerate(batch.column("image_id").to_pylist()):
                if image_id in selected:
                    _add_group(file, image_id, from_table(batch.slice(row, 1)), feature_dim)


def _add_group(file: h5py.File, image_id: str, regions: RegionBatch, feature_dim: int) -> None:
    group = file.create_group(image_id)
    count = len(regions.boxes)
    _allocate(group, "features", (count, feature_dim))
    for name, values, kind in (
        ("obj_id", regions.obj_ids, "<i8"),
        ("obj_conf", regions.obj_probs, "<f4"),
        ("attr_id", regions.attr_ids, "<i8"),
        ("attr_conf", regions.attr_probs, "<f4"),
    ):
        # VOLTA's readers expect all label columns; VOLTA's writer fills missing ones with zeros.
        group[name] = np.zeros(count, kind) if values is None else values.astype(kind)
    group["boxes"] = regions.boxes
    group["img_w"] = int(regions.image_hw[0, 1])
    group["img_h"] = int(regions.image_hw[0, 0])


def _allocate(group: h5py.Group, name: str, shape: tuple[int, int]) -> None:
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
