"""Writer for COCO's JSON: boxes as detection results, and as instances with categories."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from vlray.formats.writers.base import Export, State, number_problem
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

INSTANCES, RESULTS = "instances.json", "results.json"


class CocoExport(Export):
    """Writer for ``instances.json`` and ``results.json``, which are appended to image by image.

    Ids of categories and annotations count from 1, as COCO's evaluation takes 0 for "none". Ids of
    images that are numbers become integers, if all of them are. A resumed export cuts both files
    off at the last commit.
    """

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export."""
        path.mkdir(parents=True, exist_ok=True)
        self._has_numbers = not any(map(number_problem, image_ids))
        self._images = state["images"] if state else 0
        self._annotations = state["annotations"] if state else 0
        self._files: dict[str, BinaryIO] = {}
        for name in (INSTANCES, RESULTS):
            file = (path / name).open("r+b" if state else "wb", buffering=2**20)
            file.truncate(state[name] if state else 0)
            file.seek(0, os.SEEK_END)
            self._files[name] = file
        if not state:
            self._files[RESULTS].write(b"[")
            self._begin(self._files[INSTANCES], output, set(image_ids))

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the boxes of the next image."""
        image = self._id_of(image_id)
        for index, (x1, y1, x2, y2) in enumerate(regions.boxes.tolist()):
            category = 1 if regions.obj_ids is None else int(regions.obj_ids[index]) + 1
            box = [x1, y1, x2 - x1, y2 - y1]
            item: dict[str, Any] = {"image_id": image, "category_id": category, "bbox": box}
            if regions.obj_probs is not None:
                item["score"] = float(regions.obj_probs[index])
            separator = b",\n" if self._annotations else b"\n"
            self._annotations += 1
            more = {"id": self._annotations, "area": box[2] * box[3], "iscrowd": 0}
            self._files[RESULTS].write(separator + json.dumps({"score": 1.0} | item).encode())
            self._files[INSTANCES].write(separator + json.dumps(item | more).encode())
        self._images += 1

    def commit(self) -> State:
        """Flush both files to disk, and return a state to resume from."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: file.tell() for name, file in self._files.items()}
        return {"images": self._images, "annotations": self._annotations, **sizes}

    def finish(self, path: Path) -> None:
        """End both files."""
        self._files[RESULTS].write(b"\n]\n")
        self._files[INSTANCES].write(b"\n]}\n")
        self.commit()

    def close(self) -> None:
        """Close both files."""
        for file in self._files.values():
            file.close()

    def _id_of(self, image_id: str) -> int | str:
        return int(image_id) if self._has_numbers else image_id

    def _begin(self, file: BinaryIO, output: RegionOutput, selected: set[str]) -> None:
        """Write categories and images, which precede the annotations."""
        names = output.obj_names or ("object",)
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        info = {"description": f"{output.info.dataset}, exported by vlray"}
        head = {"info": info, "licenses": [], "categories": categories}
        file.write(json.dumps(head).removesuffix("}").encode() + b', "images": [')
        separator = b"\n"
        columns = ["image_id", "path", "image_height", "image_width"]
        for batch in output.iter_batches(columns, batch_size=1 << 14):
            for image_id, path, height, width in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                if image_id in selected:
                    size = {"height": height, "width": width}
                    image = {"id": self._id_of(image_id), "file_name": path, **size}
                    file.write(separator + json.dumps(image).encode())
                    separator = b",\n"
        file.write(b'\n], "annotations": [')
