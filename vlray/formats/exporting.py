"""Export an output to another tool's format, or resume an interrupted export."""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow.fs as pafs

from vlray.config.convert import ConvertConfig
from vlray.config.formats import FORMATS, WRITTEN
from vlray.formats.export_state import (
    check_finished,
    export_identity,
    is_taken,
    read_state,
    remove_work,
)
from vlray.formats.labels import SIDECAR
from vlray.formats.progress import ConversionProgress
from vlray.formats.writers.base import Export
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

_EXPORT_OPTIONS = {"source", "output", "format", "split", "project", "env"}


@dataclass
class ExportResult:
    """Counts for one export run."""

    path: Path
    format: str
    images: int = 0  # written by this run
    existing: int = 0  # written by earlier runs
    bytes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)  # what the format cannot hold

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
        info = FORMATS[self.format]
        lines += self.notes
        options = " --trust-pickle" if info.needs_trust else ""
        if "image sizes" in info.lacks:
            options += " --images PHOTOGRAPHS"
        lines.append(
            f"names of the label ids: {self.path}{SIDECAR}; to import the file again: "
            f"vlray convert {shlex.quote(str(self.path))} OUT{options}"
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
    result = ExportResult(path, format_name, notes=_notes(output, image_ids, format_name))
    # OUT.part holds the data, state and lock of an unfinished export.
    work = path.with_name(path.name + ".part")
    # If the path exists, it must be this export, complete; anything else is an error.
    if is_taken(path, work):
        check_finished(path, identity)
        remove_work(work)
        result.existing = len(image_ids)
        return result
    _check_companions(path, work, format_name)
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
    make = _writer_of(result.format)
    # Files written in place are written atomically; OUT.part holds only their state.
    data = result.path if make.in_place else work / "data"
    state = read_state(work, identity, data)
    try:
        writer = make(data, output, image_ids, state)
    except ValueError:
        # Leave nothing behind if a new export is refused.
        if state is None:
            remove_work(work)
        raise
    result.existing = state["images"] if state else 0
    try:
        _write(output, image_ids[result.existing :], writer, work, identity, result)
        writer.finish(result.path)
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
        if name not in WRITTEN:
            raise ValueError(
                f"--format {name} is supported for imports only; choose from: {', '.join(WRITTEN)}"
            )
        return name
    return {".tsv": "tsv10", ".h5": "hdf5", ".hdf5": "hdf5"}.get(path.suffix.lower(), "npz")


def _writer_of(name: str) -> type[Export]:
    return cast("type[Export]", plugins.load(FORMATS[name].writer))


def _notes(output: RegionOutput, image_ids: list[str], name: str) -> list[str]:
    """Return what the format leaves out, and what its users may miss in the output."""
    info = FORMATS[name]
    has_probs = "cls_probs" in output.read(image_ids[:1]).column_names
    lacks = [*info.lacks, *(["class probabilities"] if has_probs and not info.class_probs else [])]
    notes = [f"{name} cannot hold: {', '.join(lacks)}"] if lacks else []
    if info.class_probs and not has_probs:
        notes.append(
            "the probabilities of all classes are left out, because the output has none; `vlray "
            "extract --class-probs all` stores them"
        )
    return notes


def _check_companions(path: Path, work: Path, name: str) -> None:
    """Refuse to replace the user's files beside OUT.

    Raises:
        ValueError: A file that the export would write last exists, but OUT was never begun.
    """
    for suffix in _writer_of(name).suffixes:
        companion = path.with_name(path.stem + suffix)
        if companion.exists() and not (work / "state.json").is_file():
            raise ValueError(
                f"{companion} exists, and the export would replace it; remove it, or choose "
                "another name"
            )


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
