"""Text files that are compressed, in UTF-16, or with another base64, read as the plain file is."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.formats.written_text import Image, write
from vlray.config.convert import ConvertConfig
from vlray.formats.importing import import_file
from vlray.formats.lookup import recognize
from vlray.formats.readers import streams
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.tsv import Tsv10Reader
from vlray.regions.output import open_output

WAYS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "utf-16-le": lambda data: data.decode().encode("utf-16"),
    "utf-16-be": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "utf-16.gz": lambda data: gzip.compress(data.decode().encode("utf-16")),
}


def shown(items: list[tuple[int, RawRegions | Unreadable]]) -> list[tuple[object, ...]]:
    return [
        (end, raw.image_id, raw.boxes.tobytes(), raw.visual_feats.tobytes())
        for end, raw in items
        if isinstance(raw, RawRegions)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_as_its_plain_text_from_every_position(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BUFFER", 1000)  # lines and characters are cut by blocks
    plain = write(tmp_path / "plain.tsv", [Image(f"i{n}", count=n + 1).tsv10() for n in range(4)])
    source = tmp_path / f"file.{way}"
    source.write_bytes(WAYS[way](plain.read_bytes()))
    assert recognize(source) == "tsv10"
    expected = list(Tsv10Reader(plain).read())
    reader = Tsv10Reader(source)
    assert reader.end == plain.stat().st_size
    for position in (0, *(end for end, _ in expected)):
        got = shown(list(reader.read(position)))
        assert got == [row for row in shown(expected) if int(str(row[0])) > position]
        assert got or position == reader.end


def test_a_compressed_file_is_imported(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.tsv", [Image(f"i{n}").tsv10() for n in range(4)])
    source = tmp_path / "file.tsv.gz"
    source.write_bytes(gzip.compress(plain.read_bytes()))
    outputs = []
    for path in (plain, source):
        out = str(tmp_path / path.name.replace(".", "-"))
        import_file(ConvertConfig(source=str(path), output=out, shard_size=2))
        outputs.append(open_output(out))
    ids = outputs[0].image_ids
    assert outputs[0].read(ids) == outputs[1].read(ids)


@pytest.mark.parametrize("way", ["gz", "zst"])
def test_a_cut_off_file_is_named(way: str, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.tsv", [Image(f"i{n}").tsv10() for n in range(40)])
    source = tmp_path / f"file.{way}"
    source.write_bytes(WAYS[way](plain.read_bytes())[:-200])
    with pytest.raises(ValueError, match=rf"file\.{way} is damaged"):
        Tsv10Reader(source)


@pytest.mark.parametrize("is_padded", [False, True])
def test_url_safe_base64_is_decoded(is_padded: bool, tmp_path: Path) -> None:
    image = Image("a", count=5)
    line = image.tsv10()
    fields = line.split(b"\t") if isinstance(line, bytes) else line.encode().split(b"\t")
    assert any(b"+" in field or b"/" in field for field in fields)
    safe = [field.translate(bytes.maketrans(b"+/", b"-_")) for field in fields]
    if not is_padded:
        safe = [field.rstrip(b"=") if b"-" in field or b"_" in field else field for field in safe]
    source = tmp_path / "safe.tsv"
    source.write_bytes(b"\t".join(safe))
    (got,) = [raw for _, raw in Tsv10Reader(source).read()]
    assert isinstance(got, RawRegions)
    np.testing.assert_array_equal(got.visual_feats, image.feats)
    np.testing.assert_array_equal(got.boxes, image.boxes)
