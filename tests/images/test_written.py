"""Shards and tables as other tools write them: webdataset, datasets, img2dataset."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.images.archives import content
from vlray.images.decode import ImageError
from vlray.images.find import list_images


def picture(seed: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (seed, 2 * seed, 3 * seed)).save(data, "JPEG")
    return data.getvalue()


PICTURES = {f"{number:09d}": picture(number) for number in range(6)}


def test_shards_of_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(
        str(tmp_path / "train-%06d.tar"), maxcount=4, verbose=0, mtime=0.0
    ) as sink:
        for key, data in PICTURES.items():
            sink.write({"__key__": key, "jpg": data, "json": {"n": 1}, "cls": 3, "seg.png": data})
    listing = list_images(str(tmp_path / "train-{000000..000001}.tar"), exclude=("*.seg.png",))
    assert content(listing) == PICTURES
    assert listing.table["split"].unique().to_pylist() == ["train"]
    by_key = list_images(str(tmp_path), id_rule="key", exclude=("*.seg.png",))
    assert by_key.table["image_id"].to_pylist() == [*PICTURES]


def test_parquet_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets
    from datasets.table import embed_table_storage

    folder = tmp_path / "photos"
    folder.mkdir()
    for key, data in PICTURES.items():
        (folder / f"{key}.jpg").write_bytes(data)
    paths = sorted(map(str, folder.iterdir()))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": paths, "label": [*range(6)]}, features=features)
    table.to_parquet(tmp_path / "paths.parquet")
    with pytest.raises(ImageError, match="no image bytes; if it has the path of a file only"):
        content(list_images(str(tmp_path / "paths.parquet")))
    # What push_to_hub does before it writes.
    table = table.with_format("arrow").map(embed_table_storage, batched=True)
    for split, rows in {"train": range(4), "test": range(4, 6)}.items():
        path = tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.select(rows).to_parquet(path, batch_size=2)
    listing = list_images(str(tmp_path / "hub"))
    assert content(listing) == PICTURES
    splits = dict(zip(*(listing.table[n].to_pylist() for n in ("image_id", "split")), strict=True))
    assert [splits[key] for key in PICTURES] == ["train"] * 4 + ["test"] * 2
    # Pictures in the memory have no file names: their rows are numbered.
    pixels = [np.full((4, 5, 3), number, np.uint8) for number in range(2)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": pixels}, features=features).to_parquet(
        tmp_path / "x.parquet"
    )
    numbered = list_images(str(tmp_path / "x.parquet"))
    assert numbered.table["image_id"].to_pylist() == ["x-000000000", "x-000000001"]
    for number, data in enumerate(content(numbered).values()):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels[number])


def about(keys: list[str]) -> dict[str, list[str | None]]:
    """What img2dataset's tables tell of each sample."""
    return {
        "url": [f"http://x.org/{key}" for key in keys],
        "key": [*keys],
        "status": ["success"] * len(keys),
        "error_message": [None] * len(keys),
        "sha256": ["0"] * len(keys),
    }


@pytest.mark.parametrize("layout", ["webdataset", "files", "parquet"])
def test_layouts_of_img2dataset(tmp_path: Path, layout: str) -> None:
    for shard, keys in enumerate((list(PICTURES)[:3], list(PICTURES)[3:])):
        name = tmp_path / f"{shard:05d}"
        columns: dict[str, list[str | None] | list[bytes]] = {**about(keys)}
        if layout == "parquet":
            columns["jpg"] = [PICTURES[key] for key in keys]
        pq.write_table(pa.table(columns), f"{name}.parquet")
        Path(f"{name}_stats.json").write_text(json.dumps({"count": 3, "successes": 3}))
        members = {
            f"{key}.{kind}": PICTURES[key] if kind == "jpg" else b"{}"
            for key in keys
            for kind in ("jpg", "txt", "json")
        }
        if layout == "files":
            name.mkdir()
            for member, data in members.items():
                (name / member).write_bytes(data)
        if layout == "webdataset":
            with tarfile.open(f"{name}.tar", "w") as tar:
                for member, data in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    listing = list_images(str(tmp_path))
    assert content(listing) == PICTURES
    assert listing.unread == ()
    assert list_images(str(tmp_path), known=listing.members).table.equals(listing.table)


def test_a_download_that_failed_is_a_failure(tmp_path: Path) -> None:
    columns = {"key": ["0", "1"], "jpg": [PICTURES["000000001"], None]}
    pq.write_table(pa.table(columns), tmp_path / "00000.parquet")
    with pytest.raises(ImageError, match="the row has no image bytes"):
        content(list_images(str(tmp_path)))
