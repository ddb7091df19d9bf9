"""Archives and tables of seven images, and the reading of a listing."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vlray.images.listing import Listing
from vlray.images.sources.members import read_image

IMAGES = {f"{number:03d}.jpg": bytes([number]) * (700 + 300 * number) for number in range(7)}


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_tar(
    path: Path, mode: str = "w", images: dict[str, bytes] = IMAGES, **options: int
) -> Path:
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload] # the mode is a parameter
        for name, data in images.items():
            add(tar, name, data)
            add(tar, name.replace(".jpg", ".json"), b"{}")
    return path


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED, folder: str = "") -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in IMAGES.items():
            file.writestr(folder + name, data)
        file.writestr("__MACOSX/._000.jpg", b"metadata")
    return path


def write_parquet(path: Path, *, rows_per_group: int = 3) -> Path:
    """Write Hugging Face's form: a struct of the file's bytes and name."""
    images = [{"bytes": data, "path": name} for name, data in IMAGES.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": images, "label": list(range(len(images)))})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def content(listing: Listing) -> dict[str, bytes]:
    rows = listing.table.to_pylist()
    return {row["image_id"]: read_image(listing.root, row["path"], row["place"]) for row in rows}
