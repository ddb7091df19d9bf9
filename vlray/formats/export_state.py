"""Identity and saved state of an export: whether it is finished, and where to resume it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pyarrow.fs as pafs

from vlray.config.convert import ConvertConfig
from vlray.formats.labels import SIDECAR
from vlray.formats.writers.base import State
from vlray.regions import parts
from vlray.regions.output import RegionOutput
from vlray.settings.json_value import JsonObject
from vlray.storage import files
from vlray.storage.fingerprint import of_folder, summary
from vlray.version import __version__


def export_identity(
    config: ConvertConfig, output: RegionOutput, format_name: str, image_ids: list[str]
) -> JsonObject:
    """Collect everything that an export depends on, and the names of its labels."""
    fs, root = files.resolve(config.source)
    digest = sha256(files.read_bytes(fs, files.join(root, parts.SETTINGS)))
    folder = files.join(root, parts.REGIONS)
    for name, size in files.list_names(fs, folder).items():
        digest.update(f"{name} {size}\n".encode())
    return {
        "form": format_name,
        "source": output.info.dataset,
        "source_sha256": digest.hexdigest(),
        "parts_sha256": summary(of_folder(fs, folder)),
        "split": config.split,
        "images": len(image_ids),
        "vlray_version": __version__,
        "obj_names": output.obj_names,
        "attr_names": output.attr_names,
    }


def _same(one: JsonObject, other: JsonObject) -> bool:
    names = ("form", "source_sha256", "split", "images")
    if not all(one.get(name) == other.get(name) for name in names):
        return False
    # Exports by older versions do not record a digest of the parts.
    return one.get("parts_sha256", now) == now if (now := other.get("parts_sha256")) else True


def is_taken(path: Path, work: Path) -> bool:
    """Return whether the path exists and is neither an empty folder nor an unfinished export."""
    if path.is_dir():
        return any(path.iterdir()) and not (work / "state.json").is_file()
    return path.exists() and not (work / "data").exists()


def remove_work(work: Path) -> None:
    """Remove the ``OUT.part`` folder."""
    files.remove_temporaries(pafs.LocalFileSystem(), str(work))
    for name in ("state.json", ".lock"):
        (work / name).unlink(missing_ok=True)
    if work.is_dir():
        work.rmdir()


def check_finished(path: Path, identity: JsonObject) -> None:
    """Check that the existing file or folder is this export, complete.

    Raises:
        ValueError: The file or folder is something else.
    """
    try:
        saved = json.loads(Path(f"{path}{SIDECAR}").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        saved = {}
    if not _same(saved, identity):
        raise ValueError(
            f"{path} exists, but is not an export of this output in its current state; remove it, "
            "or choose another name"
        )


def read_state(work: Path, identity: JsonObject, data: Path) -> State | None:
    """Read the state of an unfinished export; None if the state or the data is missing.

    Raises:
        ValueError: The state belongs to a different export.
    """
    try:
        saved = json.loads((work / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not _same(saved["identity"], identity):
        raise ValueError(
            f"{work} is an unfinished export with another format or split, or from an earlier "
            "state of the output; remove it, or choose another name"
        )
    state: State = saved["state"]
    return state if data.exists() else None
