"""Images at http(s):// URLs, on a server of this process, and in storage of other packages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.images.archives import IMAGES, content, write_parquet, write_tar, write_zip
from vlray.images.find import list_images
from vlray.images.sources.members import read_image
from vlray.storage import files, packages, web
from vlray.storage.errors import WebError, WebMissingError
from vlray.storage.fingerprint import ABSENT, UNKNOWN, of_paths
from vlray.stream.decode import DecodeShard
from vlray.stream.decoder import Decoder


class Server(BaseHTTPRequestHandler):
    """Serves `content` by range; names tell how it misbehaves."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, str, str]]] = []

    def do_GET(self) -> None:
        path, span = self.path, self.headers.get("Range", "")
        tries = sum(path == other for _, other, _ in self.requests)
        self.requests.append((self.command, path, span))
        data = self.content.get(path.partition("?")[0], b"")
        if "busy" in path and tries == 0:
            self.answer(503, b"", {})
        elif "forbidden" in path or ("signed" in path and self.command == "HEAD"):
            self.answer(403, b"", {})
        elif not data:
            self.answer(404, b"", {})
        elif span and "whole" not in path:
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
            about = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}
            self.answer(206, part, about)
        else:
            self.answer(200, data, {})

    def answer(self, status: int, data: bytes, about: dict[str, str]) -> None:
        self.send_response(status)
        about["Last-Modified"] = "Sat, 28 Nov 2026 10:00:00 GMT"
        for name, value in (about | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass

    do_HEAD = do_GET  # noqa: N815 - likewise


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server that has the archives of `IMAGES`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        Server.content = {}
        Server.requests.clear()
        yield f"http://127.0.0.1:{http.server_port}"
        web._pool("").clear()  # connections that are kept would hold the server's threads
        http.shutdown()
        thread.join()


@pytest.fixture
def archives(server: str, tmp_path: Path) -> str:
    for path in (
        write_tar(tmp_path / "a b.tar"),
        write_zip(tmp_path / "x.zip"),
        write_parquet(tmp_path / "x.parquet"),
    ):
        Server.content[f"/d/{path.name.replace(' ', '%20')}"] = path.read_bytes()
    Server.content |= {f"/d/{name}": data for name, data in IMAGES.items()}
    return f"{server}/d"


EXPECTED = {name[:-4]: data for name, data in IMAGES.items()}


@pytest.mark.parametrize("name", ["a b.tar", "a%20b.tar?download=true", "x.zip", "x.parquet"])
def test_archives_at_urls_are_read_by_range(archives: str, name: str) -> None:
    listing = list_images(f"{archives}/{name}")
    assert content(listing) == EXPECTED
    spans = [span for method, _, span in Server.requests if method == "GET"]
    assert all(spans)
    if "?" in name:
        assert all("?download=true" in path for _, path, _ in Server.requests)
    row = listing.table.to_pylist()[3]
    assert read_image(listing.root, row["path"]) == IMAGES["003.jpg"]


def test_patterns_lists_and_tables_of_urls(archives: str, tmp_path: Path) -> None:
    Server.content |= {f"/d/{n}.tar": Server.content["/d/a%20b.tar"] for n in (0, 1)}
    listing = list_images(f"{archives}/{{0..1}}.tar", id_rule="path")
    assert listing.table.num_rows == 14
    assert listing.archives == 2
    urls = [f"{archives}/{name}" for name in IMAGES]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    Server.requests.clear()
    listing = list_images(str(tmp_path / "urls.txt"))
    assert [row["file_bytes"] for row in listing.table.to_pylist()] == [*map(len, IMAGES.values())]
    assert {method for method, *_ in Server.requests} == {"HEAD"}
    Server.requests.clear()
    assert content(listing) == EXPECTED
    assert len(Server.requests) == len(IMAGES)  # an image costs one request
    rows = "\n".join(f"id{n},{url}" for n, url in enumerate(urls))
    (tmp_path / "urls.csv").write_text(f"image_id,url\n{rows}\n")
    assert list_images(str(tmp_path / "urls.csv")).table["image_id"].to_pylist()[2] == "id2"
    Server.content["/d/near.txt"] = b"000.jpg\n001.jpg\n"
    near = list_images(f"{archives}/near.txt")
    assert content(near) == {name: EXPECTED[name] for name in ("000", "001")}


def test_what_a_server_refuses_is_named_with_the_way_out(archives: str, tmp_path: Path) -> None:
    Server.content |= {
        f"/d/{name}": b"x" * 2000 for name in ("busy.jpg", "whole.zip", "signed.jpg")
    }
    assert files.read_bytes(*files.resolve(f"{archives}/busy.jpg")) == b"x" * 2000
    with pytest.raises(WebMissingError, match=r"/d/no\.jpg: the server answered 404 Not Found"):
        files.read_bytes(*files.resolve(f"{archives}/no.jpg"))
    with pytest.raises(WebError, match=r"answered 403 Forbidden; the URL may have expired"):
        files.read_bytes(*files.resolve(f"{archives}/forbidden.jpg"))
    with pytest.raises(WebError, match="sends whole files only"):
        list_images(f"{archives}/whole.zip")
    with pytest.raises(FileNotFoundError, match=r"does not exist; .* cannot list a folder"):
        list_images(f"{archives}/nothing")
    with pytest.raises(WebError, match="folders at http:// cannot be listed"):
        list_images(f"{archives}/*.tar")
    names = ["signed.jpg", "no.jpg", "forbidden.jpg"]
    signed, missing, forbidden = of_paths(archives, names)
    assert (signed.file_bytes, missing, forbidden) == (2000, ABSENT, UNKNOWN)
    (tmp_path / "urls.txt").write_text(f"{archives}/a.jpg?token=abc")
    with pytest.raises(ValueError, match=r"\*\*\*.* would store the token of this URI"):
        list_images(str(tmp_path / "urls.txt"))


def test_a_url_that_fails_costs_its_row_only(
    archives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TRIES", 1)
    web._pool.cache_clear()
    urls = [f"{archives}/no.jpg", "http://127.0.0.1:1/gone.jpg", f"{archives}/forbidden.jpg"]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    listing = list_images(str(tmp_path / "urls.txt"))
    stage = DecodeShard(listing.table, listing.root, 10**6, None)
    fs, root = files.resolve(listing.root)
    failed = {
        row["image_id"]: stage._row(row, fs, root, Decoder(10**6, None))
        for row in listing.table.to_pylist()
    }
    web._pool.cache_clear()
    assert "404" in str(failed["no"])
    assert "403" in str(failed["forbidden"])
    assert "http://127.0.0.1:1/gone.jpg: the server cannot be reached" in str(failed["gone"])


def test_storage_of_packages_is_read_where_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"az:// needs the package adlfs, .*: pip install adlfs"):
        list_images("az://container/photos")
    # A storage of fsspec in the memory stands for Azure's.
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "az", MemoryFileSystem)
    fs = fsspec.filesystem("az")
    for path in (write_tar(tmp_path / "x.tar"), write_parquet(tmp_path / "y.parquet")):
        fs.pipe(f"/container/{path.name}", path.read_bytes())
    assert content(list_images("az://container/x.tar")) == EXPECTED
    folder = list_images("az://container", id_rule="path")
    assert folder.archives == 2
    assert folder.table.num_rows == 14
    fs.rm("/container", recursive=True)


def test_versions_stand_for_missing_times() -> None:
    assert packages.time_of({"etag": "a"}) != packages.time_of({"etag": "b"})
    assert packages.time_of({"mtime": 1.5, "etag": "a"}) == 1_500_000_000
    assert packages.time_of({}) is None
