"""Read two outputs image by image, even if they store the images in different orders."""

from __future__ import annotations

from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vlray.comparison.sides import Side
from vlray.regions.batch import RegionBatch
from vlray.regions.parts import ROW_GROUP_SIZE
from vlray.regions.schema import from_table


@dataclass(frozen=True, eq=False)
class Joined:
    """An image that both sides have.

    The regions are views into the arrays of a whole batch; copy them if you keep them.

    Attributes:
        image_id: Id of the image.
        path_a: Path of the image in A.
        path_b: Path of the image in B.
        a: Regions of side A, without padding.
        b: Regions of side B, without padding.
    """

    image_id: str
    path_a: str
    path_b: str
    a: RegionBatch
    b: RegionBatch


COLUMNS = (
    *("image_id", "path", "image_height", "image_width", "num_boxes", "boxes"),
    *("obj_ids", "obj_probs", "attr_ids", "attr_probs"),
)


def join(a: Side, b: Side, image_ids: Set[str], *, features: bool) -> Iterator[Joined]:
    """Yield the images that both sides have, in A's order; only a few row groups are in memory.

    If B stores the images in the same order, each file is read once. Otherwise row groups of B are
    read repeatedly.

    Args:
        a: The side that sets the order.
        b: The other side.
        image_ids: Ids of the images to yield; both sides must have them.
        features: Whether to read the feature vectors; skipping them is faster.
    """
    columns = [*COLUMNS, *(["visual_feats"] if features else [])]
    # Parquet decompresses a row group as a whole, so smaller batches would save nothing.
    batches = a.output.iter_batches(columns, batch_size=ROW_GROUP_SIZE)

    def read() -> tuple[pa.Table, pa.Table] | None:
        for batch in batches:
            is_selected = pa.array([i in image_ids for i in batch.column("image_id").to_pylist()])
            if pc.any(is_selected).as_py():
                rows = pa.Table.from_batches([batch]).filter(is_selected)
                return rows, b.output.read(rows["image_id"].to_pylist(), columns)
        return None

    # Read and decompress the next batch while the caller compares this one.
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read)
        while tables := ahead.result():
            ahead = pool.submit(read)
            # from_table returns only the regions, so read ids and paths here.
            texts = [
                table.column(name).to_pylist()
                for table, name in zip(
                    (tables[0], tables[0], tables[1]), ("image_id", "path", "path"), strict=True
                )
            ]
            sides = map(from_table, tables)
            for image_id, path_a, path_b, *regions in zip(*texts, *sides, strict=True):
                yield Joined(image_id, path_a, path_b, *regions)
