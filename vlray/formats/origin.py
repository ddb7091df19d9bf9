"""Where an imported output comes from: its file, and how it was read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from vlray.config.convert import ConvertConfig
from vlray.formats.sizes import Photographs
from vlray.formats.survey import Survey
from vlray.regions.schema import SCHEMA_VERSION
from vlray.version import __version__

HASHED = 64 * 2**20  # bytes: a larger file is known by its size and by this much of both its ends


def identity_of(
    config: ConvertConfig, form: str, source: Path, seen: Survey, photographs: Photographs
) -> dict[str, Any]:
    """Collect what the rows of an imported output depend on."""
    labels = "\n".join([*seen.labels.objects, "", *seen.labels.attributes])
    settings = {
        "convert.format": form,
        "convert.id_rule": config.id_rule,
        "convert.images": Path(photographs.root).name,
        "convert.labels": seen.labels.origin,
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
        # Without photographs: somewhere, so that a gallery shows placeholders and names the option.
        "images_root": photographs.root or str(source.absolute().parent),
        "detector": {"name": source.resolve().name, "format": form} | fingerprint(source),
        "settings": settings,
    }


def fingerprint(source: Path) -> dict[str, str]:
    """Give what tells a file or folder from an edited one, without reading all of a large one."""
    if source.is_file():
        return {"bytes": str(source.stat().st_size), "sha256": _digest(source)}
    digest = hashlib.sha256()
    count = size = 0
    for folder, _, names in sorted(os.walk(source)):
        for name in sorted(names):
            path = Path(folder) / name
            if name == "lock.mdb":  # LMDB's readers write to it
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
