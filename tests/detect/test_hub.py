"""Names on the Hugging Face hub, against a real HTTP server that stands in for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vlray.detect.weights.files import cache_path, hub, locate

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

    def do_GET(self) -> None:
        hub, token = self.server, self.headers["Authorization"] or ""
        hub.requests.append((self.path, token))
        if self.path.startswith("/store"):
            content = hub.files[self.path.removeprefix("/store")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        elif hub.token and token != f"Bearer {hub.token}":
            self.send_error(401)
        elif self.path in hub.files:
            self.send_response(302)
            self.send_header("Location", hub.store + self.path)
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


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
    assert hub.token_for("https://example.org/net.pth") == ""


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_what_hugging_faces_tools_downloaded_is_used(
    variable: str, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    monkeypatch.setenv(variable, str(folder))
    below = {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}
    repository = folder / below[variable] / FOLDER
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    file = repository / "snapshots" / "abc" / "pytorch_model.bin"
    file.write_bytes(b"kept")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate(REPOSITORY) == file
    assert server.requests == []


def test_offline_the_error_says_which_file_to_put_where(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cache_path(hub.url_of(REPOSITORY, "pytorch_model.bin"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids") as error:
        locate(REPOSITORY)
    assert str(place) in str(error.value)
    assert server.requests == []
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    assert locate(REPOSITORY) == place


def test_a_name_that_the_hub_does_not_know_is_said(server: Hub) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be downloaded .*404"):
        locate("nobody/nothing")


def test_paths_are_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for path in ("net", "a/net.pth", "models/net", "models/x/net.pth", "./a/b", "~/a", "/a/b"):
        assert hub.parse_name(path) is None
    assert hub.parse_name("a/../b") is None
    assert hub.parse_name("a/b") == ("a/b", "")
    assert hub.parse_name("a/b/c/net.pth") == ("a/b", "c/net.pth")
