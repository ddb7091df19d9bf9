"""Export an output to another tool's format, or resume an interrupted export."""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from vlray.config.convert import EXPORTS, ConvertConfig
from vlray.formats.export_state import (
    State,
    check_finished,
    export_identity,
    is_taken,
    read_state,
    remove_work,
)
from vlray.formats.labels import SIDECAR
from vlray.formats.progress import ConversionProgress
from vlray.regions.batch import RegionBatch
from vlray.regions.lock import only_writer
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.schema import from_table
from vlray.settings import plugins
from vlray.settings.json_value import JsonObject
from vlray.settings.wording import counted
from vlray.storage import files

log = logging.getLogger("vlray.formats")

IMAGES_READ_AT_ONCE = 32  # one row group
IMAGES_PER_COMMIT = 256  # an interrupted export repeats at most this many

_WRITERS = {
    "tsv10": "vlray.formats.writers.tsv:TsvExport",
    "hdf5": "vlray.formats.writers.hdf5:Hdf5Export",
    "npz": "vlray.formats.writers.npz:NpzExport",
    "pth": "vlray.formats.writers.pth:PthExport",
}
_FOLDERS = ("npz", "pth")  # formats with one file per image

_EXPORT_OPTIONS = {"source", "output", "format", "split", "project", "env"}


class Export(Protocol):
    """Writer for one format, which appends images to a file or folder."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start an export, or resume from a ``state`` that an earlier ``commit`` returned.

        Raises:
            ValueError: The format cannot represent an image id; the message names the first one.
        """

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the next image."""

    def commit(self) -> State:
        """Flush the written images to disk, and return a state to resume from."""

    def close(self) -> None:
        """Close the writer; committed images are kept."""


@dataclass
class ExportResult:
    """Counts for one export run."""

    path: Path
    format: str
    images: int = 0  # written by this run
    existing: int = 0  # written by earlier runs
    bytes: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Return the summary as lines for the log."""
        if not self.images:
            return [f"nothing to do: all images ({self.existing:,}) are already in {self.path}"]
        rate = self.images / max(self.seconds, 1e-9)
        lines = [
            f"{counted(self.images, 'image')}, {self.bytes / 1e6:,.2f} MB as {self.format} in "
            f"{self.seconds:.1f} s ({rate:,.1f} images/s): {self.path}"
        ]
        if self.existing:
            lines.append(f"already exported by earlier runs: {counted(self.existing, 'image')}")
        # The labels of an npz file are a pickled dictionary, as in the layout's original.
        trust = " --trust-pickle" if self.format == "npz" else ""
        if self.format != "pth":  # grids have no labels, and are not imported
            lines.append(
                f"names of the label ids: {self.path}{SIDECAR}; to import the file again: "
                f"vlray convert {shlex.quote(str(self.path))} OUT{trust}"
            )
        return lines


def export_output(config: ConvertConfig) -> ExportResult:
    """Export the images of an output to another tool's format.

    Raises:
        ValueError: An option does not apply to exports, the format cannot represent an image id,
            or OUT exists but is not this export.
    """
    if useless := sorted(config.changed().keys() - _EXPORT_OPTIONS):
        flags = ", ".join("--" + name.replace("_", "-") for name in useless)
        raise ValueError(
            f"{config.source} is a vlray output, so it is exported; remove {flags}, "
            "which apply to imports only"
        )
    if files.is_uri(config.output):
        raise ValueError(
            f"{config.output} is a URI; export to a local file or folder, then upload it"
        )
    path = Path(config.output).expanduser().absolute()
    format_name = _format_of(config.format, path)
    output = open_output(config.source)
    image_ids = _images(output, config.split)
    identity = export_identity(config, output, format_name, image_ids)
    result = ExportResult(path, format_name)
    # OUT.part holds the data, state and lock of an unfinished export.
    work = path.with_name(path.name + ".part")
    # If the path exists, it must be this export, complete; anything else is an error.
    if is_taken(path, work):
        check_finished(path, identity)
        remove_work(work)
        result.existing = len(image_ids)
        return result
    with only_writer(pafs.LocalFileSystem(), str(work), str(work)):
        began = time.monotonic()
        _export(output, image_ids, work, identity, result)
        result.seconds = time.monotonic() - began
    result.bytes = _bytes_of(path)
    return result


def _export(
    output: RegionOutput,
    image_ids: list[str],
    work: Path,
    identity: JsonObject,
    result: ExportResult,
) -> None:
    """Write the missing images, then rename the data to its final path."""
    # Files of single images are written in place, each atomically; OUT.part has only their state.
    data = result.path if result.format in _FOLDERS else work / "data"
    state = read_state(work, identity, data)
    try:
        writer: Export = plugins.load(_WRITERS[result.format])(data, output, image_ids, state)
    except ValueError:
        # Leave nothing behind if a new export is refused.
        if state is None:
            remove_work(work)
        raise
    result.existing = state["images"] if state else 0
    try:
        _write(output, image_ids[result.existing :], writer, work, identity, result)
    finally:
        writer.close()
    # Write the sidecar before the rename: without a sidecar, the next run could not tell that
    # the file is complete.
    sidecar = json.dumps(identity, ensure_ascii=False, indent=1).encode()
    files.write_atomic(pafs.LocalFileSystem(), f"{result.path}{SIDECAR}", sidecar)
    if data != result.path:
        data.replace(result.path)
    remove_work(work)


def _format_of(name: str, path: Path) -> str:
    if name:
        if name not in EXPORTS:
            raise ValueError(
                f"--format {name} is supported for imports only; choose from: {', '.join(EXPORTS)}"
            )
        return name
    return {".tsv": "tsv10", ".h5": "hdf5", ".hdf5": "hdf5"}.get(path.suffix.lower(), "npz")


def _images(output: RegionOutput, split: str) -> list[str]:
    image_ids: list[str] = []
    splits: set[str] = set()
    for batch in output.iter_batches(["image_id", "split"], batch_size=1 << 14):
        for image_id, part in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            splits.add(part)
            if not split or part == split:
                image_ids.append(image_id)
    if not image_ids:
        choices = f"; choose from: {', '.join(sorted(splits))}" if split and splits else ""
        suffix = f" in split {split}" if split else ""
        raise ValueError(f"{output.path} has no images{suffix}{choices}")
    return image_ids


def _write(
    output: RegionOutput,
    image_ids: list[str],
    writer: Export,
    work: Path,
    identity: JsonObject,
    result: ExportResult,
) -> None:
    total = result.existing + len(image_ids)
    with ConversionProgress(total, " images") as progress:
        # Images from earlier runs count towards the progress, but not towards the rate.
        progress.skip(result.existing)
        # Commit once up front: OUT.part then identifies the export even if it is killed early.
        _commit(writer, work, identity)
        for image_id, regions in _rows(output, image_ids):
            writer.add(image_id, regions)
            result.images += 1
            progress.count(result.existing + result.images, result.images, 0)
            if result.images % IMAGES_PER_COMMIT == 0:
                _commit(writer, work, identity)
        _commit(writer, work, identity)


def _rows(output: RegionOutput, image_ids: list[str]) -> Iterator[tuple[str, RegionBatch]]:
    for start in range(0, len(image_ids), IMAGES_READ_AT_ONCE):
        batch = image_ids[start : start + IMAGES_READ_AT_ONCE]
        table = output.read(batch)
        for row, image_id in enumerate(batch):
            # Convert row by row: one imported image may lack labels that others have.
            yield image_id, from_table(table.slice(row, 1))


def _commit(writer: Export, work: Path, identity: JsonObject) -> None:
    # The label names are only needed in the sidecar.
    compact = {name: value for name, value in identity.items() if not name.endswith("_names")}
    data = json.dumps({"identity": compact, "state": writer.commit()}).encode()
    files.write_atomic(pafs.LocalFileSystem(), str(work / "state.json"), data)


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        (Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names
    )
