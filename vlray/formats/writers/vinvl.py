"""Writers for VinVL's ``predictions.tsv`` and Oscar's feature and label files, with their indices.

Shapes: R: regions in one image; D: feature length.

Source:
    microsoft/scene_graph_benchmark, engine/inference.py (convert_predictions_to_tsv) and
    structures/tsv_file.py; microsoft/Oscar, oscar/run_captioning.py.
"""

from __future__ import annotations

import binascii
import json
import os
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from vlray.formats.writers.base import Export, State, check_ids, sizes_of
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

INDEX = ".lineidx"
"""Suffix of the file with the byte offset of each line, which replaces that of the TSV."""


class _IndexedTsv:
    """A TSV that grows line by line, and its index; on resume, both are truncated."""

    def __init__(self, path: Path, state: State | None, name: str) -> None:
        self.path, self._name = path, name
        self._files: list[tuple[str, BinaryIO]] = []
        for suffix in ("", INDEX):
            key = f"bytes{name}{suffix}"
            file = path.with_name(path.name + suffix).open("r+b" if state else "wb")
            file.truncate(state[key] if state else 0)  # drop what followed the last commit
            file.seek(0, os.SEEK_END)
            self._files.append((key, file))

    def add(self, image_id: str, content: object) -> None:
        """Append a line: the image id, a tab and JSON."""
        (_, lines), (_, index) = self._files
        index.write(b"%d\n" % lines.tell())
        lines.write(f"{image_id}\t{json.dumps(content)}\n".encode())

    def commit(self) -> State:
        """Flush both files to disk, and return their sizes."""
        for _, file in self._files:
            file.flush()
            os.fsync(file.fileno())
        return {key: file.tell() for key, file in self._files}

    def close(self) -> None:
        """Close both files."""
        for _, file in self._files:
            file.close()


class _IndexedExport(Export):
    """Base class of the writers of one or more indexed TSVs."""

    tables: ClassVar[tuple[str, ...]] = ("",)
    """What the names of the TSVs have before ``.tsv``; the first one is OUT itself."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id is empty, or contains a tab or a line break.
        """
        check_ids(image_ids, _problem)
        self._images = state["images"] if state else 0
        self._names = output.obj_names, output.attr_names
        self._tables = [_IndexedTsv(path.with_name(path.name + n), state, n) for n in self.tables]

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the image's lines."""
        for table, content in zip(self._tables, self._contents(regions), strict=True):
            table.add(image_id, content)
        self._images += 1

    @abstractmethod
    def _contents(self, regions: RegionBatch) -> list[object]:
        """Return the JSON of one image's line in each TSV."""

    def commit(self) -> State:
        """Flush the lines to disk, and return a state to resume from."""
        state = {"images": self._images}
        for table in self._tables:
            state |= table.commit()
        return state

    def finish(self, path: Path) -> None:
        """Move the indices, and all TSVs but the first, beside OUT."""
        self.commit()
        for name, table in zip(self.tables, self._tables, strict=True):
            if name:
                shutil.move(table.path, path.with_name(f"{path.stem}{name}.tsv"))
            index = table.path.with_name(table.path.name + INDEX)
            shutil.move(index, path.with_name(path.stem + name + INDEX))

    def close(self) -> None:
        """Close the files."""
        for table in self._tables:
            table.close()


class VinvlExport(_IndexedExport):
    """Writer for ``predictions.tsv``: a list of objects for each image."""

    suffixes: ClassVar[tuple[str, ...]] = (INDEX,)

    def _contents(self, regions: RegionBatch) -> list[object]:
        """Return the image's objects; ``attributes`` are its best first."""
        objects = []
        for index, item in enumerate(_objects(regions, self._names[0])):
            ids, probs = _attributes(regions, index)
            if len(ids):
                item["attributes"] = [self._names[1][attr_id] for attr_id in ids]
                item["attr_scores"] = probs.tolist()
            if regions.visual_feats.shape[1]:
                item["feature"] = _base64(regions.visual_feats[index])
            objects.append(item | {"bbox_id": index})
        return [{"objects": objects, "relations": None}]


class OscarExport(_IndexedExport):
    """Writer for ``feature.tsv``, whose vectors end with six numbers of the box, and its labels.

    ``OUT.label.tsv`` has the classes, whose names are the tags that Oscar reads as text.
    """

    tables: ClassVar[tuple[str, ...]] = ("", ".label")
    suffixes: ClassVar[tuple[str, ...]] = (INDEX, ".label.tsv", ".label" + INDEX)

    def _contents(self, regions: RegionBatch) -> list[object]:
        """Return the image's features, and its labels."""
        values = with_geometry(regions)
        features = {"num_boxes": len(values), "features": _base64(values)}
        return [features, _objects(regions, self._names[0])]


def with_geometry(regions: RegionBatch) -> np.ndarray:
    """Append to each vector of one image: x1, y1, x2, y2, width and height, as fractions.

    Returns:
        (R, D + 6) float32: 2054 numbers for VinVL's vectors.
    """
    height, width = sizes_of(regions)
    fractions = regions.boxes / np.array([width, height, width, height], np.float32)
    sides = fractions[:, 2:] - fractions[:, :2]
    return np.hstack([regions.visual_feats, fractions, sides]).astype(np.float32)


def _objects(regions: RegionBatch, names: tuple[str, ...]) -> list[dict[str, object]]:
    objects: list[dict[str, object]] = [{"rect": box} for box in regions.boxes.tolist()]
    if regions.obj_ids is not None and regions.obj_probs is not None:
        for item, obj_id, prob in zip(
            objects, regions.obj_ids.tolist(), regions.obj_probs.tolist(), strict=True
        ):
            item |= {"class": names[obj_id], "conf": prob}
    return objects


def _attributes(regions: RegionBatch, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of a region's attributes: all that are stored, or else the best."""
    none = np.zeros(0, np.int32), np.zeros(0, np.float32)
    if regions.attr_ids is None or regions.attr_probs is None:
        return none
    best = slice(index, index + 1)
    if regions.top_attr_ids is None or regions.top_attr_probs is None:
        return regions.attr_ids[best], regions.attr_probs[best]
    others = np.flatnonzero(regions.top_attr_probs[index][1:] > 0) + 1
    return (
        np.concatenate([regions.attr_ids[best], regions.top_attr_ids[index][others]]),
        np.concatenate([regions.attr_probs[best], regions.top_attr_probs[index][others]]),
    )


def _base64(values: np.ndarray) -> str:
    data = np.ascontiguousarray(values, "<f4").tobytes()
    return binascii.b2a_base64(data, newline=False).decode()


def _problem(image_id: str) -> str:
    if not image_id or {"\t", "\n", "\r"} & set(image_id):
        return "is empty, or has a tab or a line break, which a TSV cannot represent"
    return ""
