"""Identity of an output: all its regions are from one source and one set of settings."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.regions.schema import Identity
from vlray.storage import files
from vlray.storage.damage import read_json

log = logging.getLogger("vlray.regions")

_CONTENT = frozenset(("bytes", "sha256", "files", "names_sha256"))
"""Keys in an identity's ``detector`` that depend on the content of an imported file."""


def claim(
    fs: pafs.FileSystem,
    root: str,
    uri: str,
    identity: Identity,
    defaults: Mapping[str, object] = MappingProxyType({}),
    *,
    on_changed: Literal["redo", "refuse"] = "refuse",
) -> bool:
    """Write the identity of a new output, or check that an existing output has this identity.

    Args:
        fs: File system of the output.
        root: Path of the output folder on ``fs``.
        uri: The folder as the user wrote it, for messages.
        identity: Everything that the rows depend on. ``source``, if present, describes an imported
            file or folder: ``path``, ``names_sha256``, ``content_sha256``, ``is_whole`` (whether
            ``content_sha256`` covers all of the content), and ``times_sha256`` (digest of file
            sizes and modification times).
        defaults: Defaults of settings that are missing from the identities of older versions.
        on_changed: What to do if the source at the same path has changed: ``redo`` removes all
            rows, ``refuse`` raises an error.

    Returns:
        Whether rows were removed because the source has changed.

    Raises:
        ValueError: The output was made with different settings or from another source (the message
            lists each difference), the source has changed, or the folder is not a vlray output.
    """
    path = files.join(root, parts.SETTINGS)
    try:
        saved = read_json(fs, path, parts.RESTORE)
    except FileNotFoundError:
        if files.list_names(fs, files.join(root, parts.REGIONS)):
            raise ValueError(
                f"{uri} has a folder {parts.REGIONS}/ but no {parts.SETTINGS}, so it is not a "
                "vlray output; choose another folder"
            ) from None
        files.write_atomic(fs, path, _as_json(identity))
        return False
    if not {"settings", "detector"} <= saved.keys():
        raise ValueError(f"{path} is not a description of an output; {parts.RESTORE}")
    source: dict[str, Any] = identity.get("source", {})
    before: dict[str, Any] = saved.get("source", {})
    is_changed = bool(source and before) and has_changed(before, source)
    if is_changed and before["path"] == source["path"] and _is_alike(saved, identity, defaults):
        if on_changed == "refuse":
            raise ValueError(
                f"{source['path']} has changed since {uri} was made from it; choose another "
                "output folder, or pass --on-changed redo to make the output again"
            )
        log.warning(
            "%s has changed since %s was made from it; making the output again", source["path"], uri
        )
        _start_over(fs, root, path, identity)
        return True
    # If the source has changed here, its path or other settings differ too.
    differing = _differences(saved, identity, defaults)
    if is_changed and not differing:
        differing = _difference("source", before["path"], source["path"])
    if differing and not _has_rows(fs, files.join(root, parts.REGIONS)):
        # No image has regions yet, so nothing is lost: earlier runs stopped before they wrote a
        # file, or every image failed.
        _start_over(fs, root, path, identity)
    elif differing:
        advice = (
            "Use the same settings to resume it, or choose another folder for the new settings."
        )
        is_other_name = differing == _difference("dataset", saved["dataset"], identity["dataset"])
        if is_other_name and not source:  # such as a second folder of photographs
            advice = (
                f"Pass --dataset {shlex.quote(str(saved['dataset']))} to add these images to it, "
                "or choose another folder for them."
            )
        raise ValueError(
            f"{uri} was made with different settings, and an output cannot mix settings:\n"
            + "\n".join([*differing, advice])
        )
    elif source != before:
        if not before:
            log.warning(_ADOPTED, uri, source["path"])
        # Record the current path and times, so that the next run compares with them.
        files.write_atomic(fs, path, _as_json(saved | {"source": source}))
    return False


_ADOPTED = (
    "%s was made by an older version, which did not record the content of %s; assuming that the "
    "content has not changed"
)


def has_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether the content of a source has changed.

    If the digest does not cover all of the content, the modification times are compared too, unless
    the path differs: a copy may have other times.

    Args:
        before: Saved ``source`` of an identity.
        now: ``source`` of the current identity.
    """
    if any(before[name] != now[name] for name in ("names_sha256", "content_sha256")):
        return True
    is_digest_enough = now["is_whole"] or before["path"] != now["path"]
    return not is_digest_enough and bool(before["times_sha256"] != now["times_sha256"])


def _start_over(fs: pafs.FileSystem, root: str, path: str, identity: Identity) -> None:
    """Remove all rows from an output, and write the new identity.

    The regions are removed first, since a regions file marks a shard as done. The identity is
    replaced last: if this run is killed before that, the next one starts over.
    """
    for folder in (parts.REGIONS, parts.PLAN, parts.FAILURES, parts.FLAGS):
        for name in files.list_names(fs, files.join(root, folder)):
            files.remove(fs, files.join(root, folder, name))
    files.write_atomic(fs, path, _as_json(identity))


def _is_alike(saved: Identity, current: Identity, defaults: Mapping[str, object]) -> bool:
    """Return whether two identities are equal, apart from the content of the source."""
    one, other = (
        {
            **identity,
            "detector": {n: v for n, v in identity["detector"].items() if n not in _CONTENT},
        }
        for identity in (saved, current)
    )
    return not _differences(one, other, defaults)


def _has_rows(fs: pafs.FileSystem, folder: str) -> bool:
    """Return whether any image has regions; an unreadable file counts as yes."""
    try:
        return any(
            pq.read_metadata(files.join(folder, name), filesystem=fs).num_rows
            for name in files.list_names(fs, folder)
        )
    except pa.ArrowInvalid:
        return True


def _as_json(identity: Identity) -> bytes:
    # Sorted, so that equal identities are equal files.
    return (json.dumps(identity, indent=2, sort_keys=True) + "\n").encode()


def _differences(
    saved: Identity,
    current: Identity,
    defaults: Mapping[str, object] = MappingProxyType({}),
) -> list[str]:
    lines = []
    for name in ("schema_version", "dataset"):
        lines += _difference(name, saved.get(name), current[name])
    for group in ("settings", "detector"):
        old, new = saved.get(group, {}), current[group]
        for name in sorted(old.keys() | new.keys()):
            label = name if group == "settings" else f"detector: {name}"
            # A missing setting had its default value.
            default = defaults.get(label)
            lines += _difference(label, old.get(name, default), new.get(name, default))
    return lines


def _difference(name: str, saved: object, current: object) -> list[str]:
    if saved == current:
        return []
    if name.endswith("sha256"):  # digests are compared whole, and shortened for people
        saved, current = (str(value)[:12] for value in (saved, current))
    return [f"  {name}: {saved!r} in the output, {current!r} now"]
