"""Names on the Hugging Face hub, against a real HTTP server that stands in for it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from vlray.detect.weights.files import WEIGHTS_ENDINGS, locate
from vlray.storage.hub import parse_name

REPOSITORY = "unc-nlp/frcnn-vg-finetuned"
FOLDER = "models--unc-nlp--frcnn-vg-finetuned"


class Hub(ThreadingHTTPServer):
    """Has some files; redirects to another name of this machine, as the hub does to its store."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.store = f"http://localhost:{self.server_port}/store"
        self.files = {f"/{REPOSITORY}/resolve/main/pytorch_model.bin": b"published"}
        self.token = ""
        self.requests: list[tuple[str, str]] = []  # path, and the token that came with it


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, token = self.server, self.headers["Authorization"] or ""
        hub.requests.append((self.path, token))
        if self.path.startswith("/store"):
            content = hub.files[self.path.removeprefix("/store")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)
        elif hub.token and token != f"Bearer {hub.token}":
            self._answer(401, {"X-Error-Code": "GatedRepo"})
        elif self.path in hub.files:
            content = hub.files[self.path]
            digest = hashlib.sha256(content).hexdigest()
            about = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            place = {"Location": hub.store + self.path, "X-Repo-Commit": "c" * 40}
            self._answer(302, about | place)
        else:
            self._answer(404, {"X-Error-Code": "EntryNotFound"})

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # The client reads its variables once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    huggingface_hub.close_session()  # it keeps the proxies of its first request
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.close_session()


def test_a_repositorys_weights_are_downloaded_once(server: Hub) -> None:
    path = locate(REPOSITORY)
    assert path.read_bytes() == b"published"
    assert path.name == "pytorch_model.bin"
    requests = len(server.requests)
    assert locate(REPOSITORY) == locate(f"{REPOSITORY}/pytorch_model.bin") == path
    assert len(server.requests) == requests


def test_safetensors_are_taken_where_there_is_nothing_else(server: Hub) -> None:
    server.files = {f"/{REPOSITORY}/resolve/main/model.safetensors": b"newer"}
    assert locate(REPOSITORY).read_bytes() == b"newer"


def test_any_file_of_a_repository_can_be_named(server: Hub) -> None:
    server.files["/me/mine/resolve/main/old%20ones/net.pth"] = b"mine"
    assert locate("me/mine/old ones/net.pth").read_bytes() == b"mine"


def test_the_token_goes_to_the_hub_alone(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_secret"
    with pytest.raises(ValueError, match=r"401.*set HF_TOKEN"):
        locate(REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert locate(REPOSITORY).read_bytes() == b"published"
    assert {path.startswith("/store") for path, token in server.requests if token} == {False}


def test_downloads_of_hugging_faces_tools_are_used_offline(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / FOLDER
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    file = repository / "snapshots" / "abc" / "pytorch_model.bin"
    file.write_bytes(b"kept")
    assert locate(REPOSITORY) == file
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate(REPOSITORY) == file
    assert server.requests == []


def test_offline_the_error_names_the_variable_and_a_way_out(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE forbids .* path of a copy"):
        locate(REPOSITORY)
    assert server.requests == []


def test_several_processes_wanting_one_file_of_the_hub_download_it_once(server: Hub) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(locate, [REPOSITORY] * 4))
    assert len(paths) == 1
    assert len([path for path, _ in server.requests if path.startswith("/store")]) == 1


def test_without_a_connection_the_error_comes_at_once(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    template = "http://127.0.0.1:9/{repo_id}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(ValueError, match=r"cannot be downloaded .*refused.* connection"):
        locate(REPOSITORY)
    assert waits == []


def test_another_content_than_asked_for_is_refused(server: Hub) -> None:
    with pytest.raises(ValueError, match="has the SHA-256"):
        locate(f"{REPOSITORY}#sha256={'0' * 64}")


def test_a_name_that_the_hub_does_not_know_is_reported(server: Hub) -> None:
    with pytest.raises(
        ValueError, match=r"nobody/nothing .* no pytorch_model\.bin or model\.safetensors .*404"
    ):
        locate("nobody/nothing")


def test_paths_are_not_names_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    endings = tuple(WEIGHTS_ENDINGS)
    (tmp_path / "models").mkdir()
    for path in ("net", "a/net.pth", "models/net", "models/x/net.pth", "./a/b", "~/a", "/a/b"):
        assert parse_name(path, endings) is None
    assert parse_name("a/../b", endings) is None
    assert parse_name("a/b", endings) == ("a/b", "")
    assert parse_name("a/b/c/net.pth", endings) == ("a/b", "c/net.pth")
