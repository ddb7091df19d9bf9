"""What makes an output itself: one folder holds the regions of one origin with one setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.storage import files


def claim(
    fs: pafs.FileSystem,
    root: str,
    uri: str,
    identity: dict[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write an output's identity, or check that it is the one that is there.

    Args:
        fs: Where the output is.
        root: Its folder there.
        uri: The folder as the user wrote it.
        identity: What its rows depend on.
        defaults: Of settings that an identity may lack: an older version did not know them.

    Raises:
        ValueError: The output was made with other settings; each difference is named.
    """
    path = files.join(root, parts.SETTINGS)
    try:
        there = json.loads(files.read_bytes(fs, path))
    except FileNotFoundError:
        if files.list_names(fs, files.join(root, parts.REGIONS)):
            raise ValueError(
                f"{uri} has a folder {parts.REGIONS}/ but no {parts.SETTINGS}; it is not an "
                "output of vlray, so give another folder"
            ) from None
        files.write_atomic(fs, path, _as_json(identity))
        return
    differing = _differences(there, identity, defaults)
    if differing and not _has_rows(fs, files.join(root, parts.REGIONS)):
        # Earlier runs were refused, stopped before their first file, or every image failed: nothing
        # holds us to them. The regions go first, since their being there means a shard is done.
        for folder in (parts.REGIONS, parts.PLAN, parts.FAILURES, parts.FLAGS):
            for name in files.list_names(fs, files.join(root, folder)):
                files.remove(fs, files.join(root, folder, name))
        files.write_atomic(fs, path, _as_json(identity))
    elif differing:
        raise ValueError(
            f"{uri} was made with other settings, and one output holds one kind of regions:\n"
            + "\n".join(differing)
            + "\nGive the same settings to finish it, or another folder for the new ones."
        )


def _has_rows(fs: pafs.FileSystem, folder: str) -> bool:
    """Tell whether an image has regions; a file that cannot be read may hold some."""
    try:
        return any(
            pq.read_metadata(files.join(folder, name), filesystem=fs).num_rows
            for name in files.list_names(fs, folder)
        )
    except pa.ArrowInvalid:
        return True


def _as_json(identity: dict[str, Any]) -> bytes:
    return (json.dumps(identity, indent=2, sort_keys=True) + "\n").encode()


def _differences(
    there: dict[str, Any], here: dict[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    lines = []
    for name in ("schema_version", "dataset"):
        lines += _difference(name, there.get(name), here[name])
    for group in ("settings", "detector"):
        old, new = there.get(group, {}), here[group]
        for name in sorted(old.keys() | new.keys()):
            label = name if group == "settings" else f"detector: {name}"
            default = defaults.get(label)
            lines += _difference(label, old.get(name, default), new.get(name, default))
    return lines


def _difference(name: str, there: object, here: object) -> list[str]:
    if there == here:
        return []
    if name.endswith("sha256"):  # a file's content: an edited file is another detector
        there, here = (str(value)[:12] for value in (there, here))
    return [f"  {name}: {there!r} there, {here!r} now"]
