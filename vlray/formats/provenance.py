"""Provenance of an imported output: the source file, and how it was interpreted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from vlray.config.convert import ConvertConfig
from vlray.config.formats import ALIASES
from vlray.formats.readers.checked import list_files
from vlray.formats.sizes import Photographs
from vlray.formats.survey import Survey
from vlray.regions.schema import SCHEMA_VERSION, Identity
from vlray.storage import fingerprint
from vlray.version import __version__

SPELLING = ("utf-8", "surrogateescape")  # encoding of file names
HASHED = 64 * 2**20  # for a large file, the digest covers the size and this many bytes at each end

# An import that an older version began is resumed, although its format has a new name.
_FORMER = {name: former for former, name in ALIASES.items()}


def identity_of(
    config: ConvertConfig,
    format_name: str,
    source: Path,
    seen: Survey,
    photographs: Photographs,
    companions: Sequence[Path] = (),
) -> Identity:
    """Collect everything that the rows of an imported output depend on.

    Args:
        config: Options of the import.
        format_name: Name of the source's format.
        source: The file or folder to import.
        seen: Survey of the first images.
        photographs: Photographs and sizes of the images.
        companions: Further files that the reader reads.
    """
    format_name = _FORMER.get(format_name, format_name)
    labels = "\n".join([*seen.labels.objects, "", *seen.labels.attributes])
    settings = {
        "convert.format": format_name,
        "convert.id_rule": config.id_rule,
        "convert.images": Path(photographs.root).name,
        "convert.labels": seen.labels.source,
        "convert.labels_sha256": hashlib.sha256(labels.encode()).hexdigest(),
        "convert.sizes_sha256": _digest(Path(config.sizes)) if config.sizes else "",
        "convert.split": config.split,
        "convert.strict": config.strict,
        "convert.trust_pickle": config.trust_pickle,
        "output.dtype": config.dtype,
        "output.compression": "zstd",
        "output.shard_size": config.shard_size,
        **seen.settings(),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "vlray_version": __version__,
        "dataset": source.resolve().name.partition(".")[0],
        # If there are no photographs, any folder will do: the gallery then shows placeholders
        # and mentions --images.
        "images_root": photographs.root or str(source.absolute().parent),
        "detector": {"name": source.resolve().name, "format": format_name} | _content(source),
        "settings": settings,
        "source": state_of(source, companions),
    }


def state_of(source: Path, companions: Sequence[Path] = ()) -> Identity:
    """Describe the content of a source, so that a later run can detect a change.

    Returns:
        The state that `vlray.regions.claim.has_changed` compares.
    """
    if source.is_dir():
        _, names = list_files(source, "")
        # Opening an LMDB database can change lock.mdb. is_file() drops broken links.
        names = [name for name in names if name.rpartition("/")[2] != "lock.mdb"]
        paths = {name: path for name in names if (path := source / name).is_file()}
    else:
        paths = {path.name: path for path in (source, *companions)}
    content, is_whole = fingerprint.sample(list(paths.values()))
    return {
        "path": str(source.resolve()),
        "names_sha256": hashlib.sha256("\0".join(paths).encode(*SPELLING)).hexdigest(),
        "content_sha256": content,
        "is_whole": is_whole,
        "times_sha256": fingerprint.summary(
            {name: fingerprint.of_file(path) for name, path in paths.items()}
        ),
    }


def _content(source: Path) -> dict[str, str]:
    """Digest a file's content, or a folder's file names and sizes.

    Only the ends of a large file are read.
    """
    if source.is_file():
        return {"bytes": str(source.stat().st_size), "sha256": _digest(source)}
    digest = hashlib.sha256()
    count = size = 0
    for folder, _, names in sorted(os.walk(source)):
        for name in sorted(names):
            path = Path(folder) / name
            if name == "lock.mdb":  # changed by opening an LMDB database
                continue
            bytes_ = path.stat().st_size
            digest.update(f"{path.relative_to(source)}\0{bytes_}\n".encode("utf-8", "replace"))
            count, size = count + 1, size + bytes_
    return {"files": str(count), "bytes": str(size), "names_sha256": digest.hexdigest()}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= 2 * HASHED:
            while block := stream.read(2**20):
                digest.update(block)
            return digest.hexdigest()
        digest.update(f"{size}\n".encode() + stream.read(HASHED))
        stream.seek(size - HASHED)
        digest.update(stream.read())
    return digest.hexdigest()
