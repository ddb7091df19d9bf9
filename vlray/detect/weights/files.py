"""Find or download weights files, and check their SHA-256. Does not import torch."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs

from vlray.storage import hub
from vlray.storage.locks import build_once

logger = logging.getLogger(__name__)

_DETECTRON2 = "detectron2://"
_DETECTRON2_URL = "https://dl.fbaipublicfiles.com/detectron2/"  # as in Detectron2
# A server that compresses its response does not send the file's Content-Length, which is checked.
_PLAIN = {"Accept-Encoding": "identity"}
_HUB_FILES = ("pytorch_model.bin", "model.safetensors")  # weights on the Hub; first match

WEIGHTS_ENDINGS = frozenset((".bin", ".pkl", ".pt", ".pth", ".safetensors"))
"""Suffixes of weights files."""


def is_url(weights: str) -> bool:
    """Return whether ``weights`` is a URL, not a path."""
    return weights.startswith(("http://", "https://", _DETECTRON2))


def locate(weights: str) -> Path:
    """Return the local path of weights; download a URL once, into the user's cache.

    Args:
        weights: A path, ``http(s)://...``, ``detectron2://...`` or a name on the Hugging Face Hub
            (``org/name`` or ``org/name/file``, downloaded into the Hub's own cache). If a suffix
            ``#sha256=`` with 64 hexadecimal digits follows, the file's SHA-256 is checked.

    Raises:
        ValueError: The file does not exist, its download fails, or its SHA-256 differs.
    """
    source, mark, expected = weights.partition("#sha256=")
    expected = expected.lower()
    if mark and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise ValueError(f"{weights!r}: #sha256= must be followed by 64 hexadecimal digits")
    if is_url(source):
        path = cache_path(source)
        _download(source, path, expected)
    elif name := hub.parse_name(source, tuple(WEIGHTS_ENDINGS)):
        repository, file = name
        path = hub.download(repository, (file,) if file else _HUB_FILES)
    else:
        path = _local_file(source)
    if expected and (digest := sha256(path)) != expected:
        raise ValueError(
            f"{path} has the SHA-256 {digest}, but #sha256= says {expected}; the file is "
            "damaged or not the expected one: remove it (a URL is then downloaded again), or "
            "correct #sha256="
        )
    return path


def cache_path(url: str) -> Path:
    """Return the path of a URL's file in the user's cache, even if it is not downloaded yet.

    Raises:
        ValueError: The URL does not end in a file name.
    """
    parts = urlsplit(_http_url(url))
    names = [unquote(name).replace("/", "_") for name in parts.path.split("/")]
    names = [name for name in names if name not in ("", ".", "..")]
    if not names or parts.path.endswith("/"):
        raise ValueError(f"{url} does not end with a file name; pass the URL of the file itself")
    if parts.query:  # another query may mean another file; the suffix must stay last
        name = Path(names[-1])
        names[-1] = (
            f"{name.stem}-{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}{name.suffix}"
        )
    return cache_folder().joinpath(parts.netloc.rpartition("@")[2].replace(":", "_"), *names)


def cache_folder() -> Path:
    """Return the folder for downloaded weights in the user's cache."""
    return Path(platformdirs.user_cache_dir("vlray")) / "weights"


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hexadecimal; an unchanged file is hashed once per process."""
    path = Path(path).resolve()
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _http_url(url: str) -> str:
    return _DETECTRON2_URL + url[len(_DETECTRON2) :] if url.startswith(_DETECTRON2) else url


def _local_file(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if "://" in source:
        raise ValueError(
            f"{source}: weights are read from a local path, http(s)://, detectron2:// or the "
            "Hugging Face Hub (org/name)"
        )
    problem = "is a folder" if path.is_dir() else "does not exist"
    raise ValueError(
        f"the file {source!r} {problem} (looked for at {path.absolute()}); "
        "pass the path of a file, a URL, or org/name on the Hugging Face Hub"
    )


def _download(url: str, path: Path, expected: str) -> None:
    """Download a file once, even if several processes on this machine need it.

    Raises:
        ValueError: The download fails, or the file's SHA-256 is not ``expected``.
    """

    def fetch(temporary: Path) -> None:
        from huggingface_hub.file_download import http_get  # its HTTP client is slow to import

        logger.info("downloading %s to %s", url, path)
        with temporary.open("wb") as file:
            # torch.hub.download_url_to_file accepts an interrupted transfer as a complete file and
            # waits forever if a server hangs. http_get resumes, and checks the length.
            http_get(_http_url(url), file, headers=_PLAIN, displayed_filename=path.name)
        if expected and (digest := sha256(temporary)) != expected:
            raise ValueError(
                f"{url} has the SHA-256 {digest}, but #sha256= says {expected}; "
                "the file was changed or replaced there: check the source of the URL"
            )

    try:
        build_once(path, fetch)
    except ValueError:
        raise
    except Exception as error:  # the Hub library's versions use different HTTP clients
        raise ValueError(
            f"{url} cannot be downloaded ({hub.first_line(error)}); try again when there is a "
            f"connection, or copy the file to {path}"
        ) from error
