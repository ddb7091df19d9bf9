"""What makes an output itself: one folder holds the regions of one origin with one setting."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.storage import files

log = logging.getLogger("vlray.regions")

_CONTENT = frozenset(("bytes", "sha256", "files", "names_sha256"))
"""What an identity's ``detector`` says of the content of an imported file."""


def claim(
    fs: pafs.FileSystem,
    root: str,
    uri: str,
    identity: dict[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
    *,
    on_changed: Literal["redo", "refuse"] = "refuse",
) -> bool:
    """Write an output's identity, or check that it is the one that is there.

    Args:
        fs: Where the output is.
        root: Its folder there.
        uri: The folder as the user wrote it.
        identity: What its rows depend on. If it has ``source``, that describes an imported file:
            ``path``, ``names_sha256``, ``content_sha256``, whether that is of all its content
            (``is_whole``), and ``times_sha256`` of its size and time.
        defaults: Of settings that an identity may lack: an older version did not know them.
        on_changed: ``redo``: where the file at the same path has other content than the output
            was made of, all that was made is removed.

    Returns:
        Whether something was removed for this reason.

    Raises:
        ValueError: The output was made with other settings, or of another file; each difference is
            named.
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
        return False
    source: dict[str, Any] = identity.get("source", {})
    before: dict[str, Any] = there.get("source", {})
    is_changed = bool(source and before) and has_changed(before, source)
    if is_changed and before["path"] == source["path"] and _is_alike(there, identity, defaults):
        if on_changed == "refuse":
            raise ValueError(
                f"{source['path']} has changed since {uri} was made of it; give another folder "
                "for the output, or have it made again: --on-changed redo"
            )
        log.warning("%s has changed since %s was made of it", source["path"], uri)
        _start_over(fs, root, path, identity)
        return True
    differing = _differences(there, identity, defaults)
    if is_changed and not differing:
        differing = _difference("source", before["path"], source["path"])
    if differing and not _has_rows(fs, files.join(root, parts.REGIONS)):
        # Earlier runs were refused, stopped before their first file, or every image failed: nothing
        # holds us to them.
        _start_over(fs, root, path, identity)
    elif differing:
        raise ValueError(
            f"{uri} was made with other settings, and one output holds one kind of regions:\n"
            + "\n".join(differing)
            + "\nGive the same settings to finish it, or another folder for the new ones."
        )
    elif source != before:
        if not before:
            log.warning(_ADOPTED, uri, source["path"])
        files.write_atomic(fs, path, _as_json(there | {"source": source}))
    return False


_ADOPTED = (
    "%s does not say of which content %s was: an older version made it; the content of today is "
    "taken for that"
)


def has_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether a source's content is another one than it was.

    Where the middle of its content is not digested, its time decides; but a copy at another place
    may have another time.
    """
    if any(before[name] != now[name] for name in ("names_sha256", "content_sha256")):
        return True
    is_known = now["is_whole"] or before["path"] != now["path"]
    return not is_known and bool(before["times_sha256"] != now["times_sha256"])


def _start_over(fs: pafs.FileSystem, root: str, path: str, identity: dict[str, Any]) -> None:
    """Remove what was made. The regions go first, since their being there means a shard is done.

    The identity goes last: until it is replaced, the next run sees the same reason to start over.
    """
    for folder in (parts.REGIONS, parts.PLAN, parts.FAILURES, parts.FLAGS):
        for name in files.list_names(fs, files.join(root, folder)):
            files.remove(fs, files.join(root, folder, name))
    files.write_atomic(fs, path, _as_json(identity))


def _is_alike(
    there: Mapping[str, Any], here: Mapping[str, Any], defaults: Mapping[str, Any]
) -> bool:
    """Tell whether two identities differ in nothing but the content of the source."""
    one, other = (
        {
            **identity,
            "detector": {n: v for n, v in identity["detector"].items() if n not in _CONTENT},
        }
        for identity in (there, here)
    )
    return not _differences(one, other, defaults)


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
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
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
