"""Weights from a path or from a real HTTP server that breaks off, changes its file, or is gone."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

from vlray.detect.weights.files import cache_path, is_url, locate, sha256

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """One file at any address; ``break_after`` bytes of an answer the connection closes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.break_after: int | None = None
        self.with_ranges = True
        self.requests: list[str] = []  # the Range header of each, empty where there was none
        self.url = f"http://127.0.0.1:{self.server_port}/models/net.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, wanted = self.server.content, self.headers["Range"] or ""
        self.server.requests.append(wanted)
        if "missing" in self.path:
            self.send_error(404)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        if wanted and self.server.with_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if self.server.with_ranges:
            self.send_header("ETag", etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(
            body if self.server.break_after is None else body[: self.server.break_after]
        )
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def leftovers(path: Path) -> list[str]:
    return [
        name for p in path.parent.iterdir() if (name := p.name) != path.name and "lock" not in name
    ]


def test_a_url_is_downloaded_once_into_the_cache(server: Server, tmp_path: Path) -> None:
    path = locate(server.url)
    assert path.read_bytes() == CONTENT
    assert path.name == "net.pth"
    assert path.is_relative_to(tmp_path / "cache" / "vlray" / "weights")
    assert locate(server.url) == path == cache_path(server.url)
    assert len(server.requests) == 1
    assert leftovers(path) == []


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the tries
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    server.break_after = 1_100_000
    path = locate(f"{server.url}#sha256={DIGEST}")
    assert path.read_bytes() == CONTENT
    assert server.requests == ["", "bytes=1100000-", "bytes=2200000-"]
    assert leftovers(path) == []


def test_a_server_without_ranges_that_keeps_breaking_off_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the tries
    server.with_ranges, server.break_after = False, 1_000_000
    with pytest.raises(ValueError, match=r"received 1000000 bytes, expected 3000000"):
        locate(server.url)
    path = cache_path(server.url)
    assert not path.exists()
    assert leftovers(path) == []
    server.break_after = None
    assert locate(server.url).read_bytes() == CONTENT


def test_another_content_than_asked_for_is_refused_and_not_kept(server: Server) -> None:
    server.content = b"something else"
    with pytest.raises(ValueError, match=f"#sha256= says {DIGEST}"):
        locate(f"{server.url}#sha256={DIGEST}")
    assert not cache_path(server.url).exists()
    server.content = CONTENT
    assert locate(f"{server.url}#sha256={DIGEST}").read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_checked_too(server: Server) -> None:
    path = cache_path(server.url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert locate(server.url) == path
    with pytest.raises(ValueError, match="damaged or not the expected one"):
        locate(f"{server.url}#sha256={DIGEST}")
    assert server.requests == []


def test_without_a_connection_the_error_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the tries
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.pth"
        with pytest.raises(ValueError, match="or copy the file to") as error:
            locate(url)
    assert url in str(error.value)
    assert str(cache_path(url)) in str(error.value)


def test_an_address_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(ValueError, match=r"missing\.pth cannot be downloaded .*404"):
        locate(server.url.replace("net", "missing"))
    assert len(server.requests) == 1


def test_several_processes_wanting_one_file_download_it_once(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(locate, [server.url] * 4))
    assert len(set(paths)) == 1
    assert len(server.requests) == 1


def test_addresses_that_differ_only_in_their_query_have_files_of_their_own() -> None:
    one, two = (cache_path(f"https://example.org/get/net.pth?v={v}") for v in (1, 2))
    assert one != two
    assert one.suffix == two.suffix == ".pth"
    assert cache_path("https://example.org/../../a/%2e%2e/net.pth").name == "net.pth"
    assert ".." not in cache_path("https://example.org/../../a/%2e%2e/net.pth").parts
    assert cache_path("detectron2://a/b.pkl").parts[-3:] == ("detectron2", "a", "b.pkl")
    with pytest.raises(ValueError, match="does not end with a file name"):
        cache_path("https://example.org/models/")


def test_a_local_file_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")
    assert locate(str(path)) == path
    assert locate(f"{path}#sha256={hashlib.sha256(b'weights').hexdigest()}") == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/net.pth") == path


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("gone.pth", r"'gone\.pth' does not exist"),
        (".", "is a folder"),
        ("s3://bucket/net.pth", "local path, http"),
        ("net.pth#sha256=12", "64 hexadecimal digits"),
    ],
)
def test_missing_weights_are_named(weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        locate(weights)


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"one")
    assert sha256(path) == hashlib.sha256(b"one").hexdigest() == sha256(path)
    path.write_bytes(b"three")
    assert sha256(path) == hashlib.sha256(b"three").hexdigest()


def test_urls_are_told_from_paths() -> None:
    assert is_url("https://example.org/a.pth")
    assert not is_url("https/a.pth")
