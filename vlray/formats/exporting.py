"""An output becomes a file of other tools, and an export that was killed goes on."""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pyarrow.fs as pafs

from vlray.config.convert import EXPORTS, ConvertConfig
from vlray.formats.labels import SIDECAR
from vlray.formats.progress import Progress
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.lock import only_writer
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.schema import from_table
from vlray.settings import plugins
from vlray.storage import files
from vlray.storage.fingerprint import of_folder, summary
from vlray.version import __version__

log = logging.getLogger("vlray.formats")

TOGETHER = 32  # images that are read at once: a row group
COMMITTED = 256  # images after which what is written is made to last

_WRITERS = {
    "tsv10": "vlray.formats.writers.tsv:TsvExport",
    "hdf5": "vlray.formats.writers.hdf5:Hdf5Export",
    "npz": "vlray.formats.writers.npz:NpzExport",
}

_EXPORT_OPTIONS = {"source", "output", "format", "split", "project", "env"}

State = dict[str, int]


class Export(Protocol):
    """Writes images into a file or folder that grows and is renamed when it is complete."""

    def __init__(
        self, place: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Begin, or go on from the state that an earlier ``commit`` gave.

        Raises:
            ValueError: The form cannot hold these images; the first one is named.
        """

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the next image."""

    def commit(self) -> State:
        """Make what is written last, and describe it."""

    def close(self) -> None:
        """End; what was committed stays."""


@dataclass
class ExportResult:
    """What one run did."""

    place: Path
    form: str
    images: int = 0
    there: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Sum it up for the log."""
        if not self.images:
            return [f"nothing to do: all {self.there:,} images are in {self.place}"]
        rate = self.images / max(self.seconds, 1e-9)
        lines = [
            f"{self.images:,} images, {self.bytes / 1e6:,.2f} MB as {self.form} in "
            f"{self.seconds:.1f} s ({rate:,.1f} images/s): {self.place}"
        ]
        if self.there:
            lines.append(f"{self.there:,} images were there already")
        lines.append(
            f"names of the label ids: {self.place}{SIDECAR}; the way back: "
            f"vlray convert {shlex.quote(str(self.place))} OUT"
        )
        return lines


def export_output(config: ConvertConfig) -> ExportResult:
    """Write the images of an output as another tool's file.

    Raises:
        ValueError: The form, the images or what is there already forbid it.
    """
    if useless := sorted(config.changed().keys() - _EXPORT_OPTIONS):
        flags = ", ".join("--" + name.replace("_", "-") for name in useless)
        raise ValueError(f"{config.source} is an output of vlray; {flags} only matter to an import")
    if files.is_uri(config.output):
        raise ValueError(f"{config.output}: an export goes to a local file or folder; copy it then")
    place = Path(config.output).expanduser().absolute()
    form = _form(config.format, place)
    output = open_output(config.source)
    image_ids = _images(output, config.split)
    identity = _identity(config, output, form, image_ids)
    result = ExportResult(place, form)
    # One folder beside the file holds all that is not complete: data, state and lock.
    work = place.with_name(place.name + ".part")
    if _is_there(place, work):
        _check_finished(place, identity)
        _remove(work)
        result.there = len(image_ids)
        return result
    with only_writer(pafs.LocalFileSystem(), str(work), str(work)):
        began = time.monotonic()
        _export(output, image_ids, work, identity, result)
        result.seconds = time.monotonic() - began
    result.bytes = _bytes_of(place)
    return result


def _export(
    output: RegionOutput,
    image_ids: list[str],
    work: Path,
    identity: dict[str, Any],
    result: ExportResult,
) -> None:
    """Write what is missing, and give the file its name."""
    data = result.place if result.form == "npz" else work / "data"
    state = _state(work, identity, data)
    try:
        writer: Export = plugins.load(_WRITERS[result.form])(data, output, image_ids, state)
    except ValueError:
        if state is None:
            _remove(work)
        raise
    result.there = state["images"] if state else 0
    try:
        _write(output, image_ids[result.there :], writer, work, identity, result)
    finally:
        writer.close()
    sidecar = json.dumps(identity, ensure_ascii=False, indent=1).encode()
    files.write_atomic(pafs.LocalFileSystem(), f"{result.place}{SIDECAR}", sidecar)
    if data != result.place:
        data.replace(result.place)
    _remove(work)


def _form(name: str, place: Path) -> str:
    if name:
        if name not in EXPORTS:
            raise ValueError(f"--format {name} cannot be written; choose {', '.join(EXPORTS)}")
        return name
    return {".tsv": "tsv10", ".h5": "hdf5", ".hdf5": "hdf5"}.get(place.suffix.lower(), "npz")


def _images(output: RegionOutput, split: str) -> list[str]:
    image_ids: list[str] = []
    splits: set[str] = set()
    for batch in output.iter_batches(["image_id", "split"], batch_size=1 << 14):
        for image_id, part in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            splits.add(part)
            if not split or part == split:
                image_ids.append(image_id)
    if not image_ids:
        there = f"; it has {', '.join(sorted(splits))}" if split and splits else ""
        raise ValueError(f"{output.path} has no images{' of ' + split if split else ''}{there}")
    return image_ids


def _identity(
    config: ConvertConfig, output: RegionOutput, form: str, image_ids: list[str]
) -> dict[str, Any]:
    """Collect what an export depends on; the names of the labels go with it."""
    fs, root = files.resolve(config.source)
    digest = sha256(files.read_bytes(fs, files.join(root, parts.SETTINGS)))
    folder = files.join(root, parts.REGIONS)
    for name, size in files.list_names(fs, folder).items():
        digest.update(f"{name} {size}\n".encode())
    return {
        "form": form,
        "source": output.info.dataset,
        "source_sha256": digest.hexdigest(),
        "parts_sha256": summary(of_folder(fs, folder)),
        "split": config.split,
        "images": len(image_ids),
        "vlray_version": __version__,
        "obj_names": output.obj_names,
        "attr_names": output.attr_names,
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    names = ("form", "source_sha256", "split", "images")
    if not all(one.get(name) == other.get(name) for name in names):
        return False
    # An older export does not know the times of the parts.
    return one.get("parts_sha256", now) == now if (now := other.get("parts_sha256")) else True


def _is_there(place: Path, work: Path) -> bool:
    """Tell whether something has the place already, other than an empty or unfinished folder."""
    if place.is_dir():
        return any(place.iterdir()) and not (work / "state.json").is_file()
    return place.exists() and not (work / "data").exists()


def _remove(work: Path) -> None:
    """Remove the folder of what is not complete."""
    files.remove_temporaries(pafs.LocalFileSystem(), str(work))
    for name in ("state.json", ".lock"):
        (work / name).unlink(missing_ok=True)
    if work.is_dir():
        work.rmdir()


def _check_finished(place: Path, identity: dict[str, Any]) -> None:
    """Make sure that what is there is this very export.

    Raises:
        ValueError: It is something else.
    """
    try:
        there = json.loads(Path(f"{place}{SIDECAR}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = {}
    if not _same(there, identity):
        raise ValueError(
            f"{place} exists and is no export of this output as it is now; remove it, or give "
            "another name"
        )


def _state(work: Path, identity: dict[str, Any], data: Path) -> State | None:
    """Read how far an earlier run had come; None where there was none, or its data is gone.

    Raises:
        ValueError: It was another export.
    """
    try:
        there = json.loads((work / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not _same(there["identity"], identity):
        raise ValueError(
            f"{work} is what is left of another export (of another form or split, or the output "
            "has changed since); remove it, or give another name"
        )
    state: State = there["state"]
    return state if data.exists() else None


def _write(
    output: RegionOutput,
    image_ids: list[str],
    writer: Export,
    work: Path,
    identity: dict[str, Any],
    result: ExportResult,
) -> None:
    total = result.there + len(image_ids)
    with Progress(total, " images") as progress:
        progress.skip(result.there)
        _commit(writer, work, identity)
        for image_id, regions in _rows(output, image_ids):
            writer.add(image_id, regions)
            result.images += 1
            progress.count(result.there + result.images, result.images, 0)
            if result.images % COMMITTED == 0:
                _commit(writer, work, identity)
        _commit(writer, work, identity)


def _rows(output: RegionOutput, image_ids: list[str]) -> Iterator[tuple[str, RegionBatch]]:
    for start in range(0, len(image_ids), TOGETHER):
        some = image_ids[start : start + TOGETHER]
        table = output.read(some)
        for row, image_id in enumerate(some):
            # One by one: an image may lack labels that its neighbours have.
            yield image_id, from_table(table.slice(row, 1))


def _commit(writer: Export, work: Path, identity: dict[str, Any]) -> None:
    kept = {name: value for name, value in identity.items() if not name.endswith("_names")}
    data = json.dumps({"identity": kept, "state": writer.commit()}).encode()
    files.write_atomic(pafs.LocalFileSystem(), str(work / "state.json"), data)


def _bytes_of(place: Path) -> int:
    if place.is_file():
        return place.stat().st_size
    return sum(
        (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(place)
        for name in names
    )
