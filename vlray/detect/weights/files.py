"""Weights files: a local path or a URL in, a checked local file out. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs
from tqdm import tqdm

from vlray.detect.weights import hub
from vlray.storage.locks import locked

logger = logging.getLogger(__name__)

_DETECTRON2 = "detectron2://"
_DETECTRON2_URL = "https://dl.fbaipublicfiles.com/detectron2/"  # what Detectron2 reads it as
_TIMEOUT_S = 30
_CHUNK = 1 << 20


def is_url(weights: str) -> bool:
    """Tell a URL from a path."""
    return weights.startswith(("http://", "https://", _DETECTRON2))


def locate(weights: str) -> Path:
    """Give the local file of some weights; a URL is downloaded once into the user's cache.

    Args:
        weights: A path, ``http(s)://...``, ``detectron2://...`` or a name on the Hugging Face hub
            (``org/name`` or ``org/name/file``; a copy that its tools keep is taken first), each
            with ``#sha256=`` and 64 hexadecimal digits behind it where the content must be that
            and no other.

    Raises:
        ValueError: There is no such file, the download fails, or the SHA-256 is another.
    """
    source, mark, expected = weights.partition("#sha256=")
    expected = expected.lower()
    if mark and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise ValueError(f"{weights!r}: behind #sha256= there must be 64 hexadecimal digits")
    if is_url(source):
        path = cache_path(source)
        if not path.is_file():
            _download(source, path, expected)
    elif name := hub.parse_name(source):
        path = _from_hub(*name, expected)
    else:
        path = _local_file(source)
    if expected and (found := sha256(path)) != expected:
        raise ValueError(
            f"{path} has the SHA-256 {found}, but {expected} was asked for; it is another file or "
            "a damaged one: remove it (a URL is then downloaded again) or correct #sha256="
        )
    return path


def cache_path(url: str) -> Path:
    """Give the place of a URL's file in the user's cache, whether it is there or not."""
    parts = urlsplit(_http_url(url))
    names = [unquote(name).replace("/", "_") for name in parts.path.split("/")]
    names = [name for name in names if name not in ("", ".", "..")]
    if not names or parts.path.endswith("/"):
        raise ValueError(f"{url} names no file; give the address of the file itself")
    if parts.query:  # two queries may be two files; the ending stays the last part of the name
        name = Path(names[-1])
        names[-1] = (
            f"{name.stem}-{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}{name.suffix}"
        )
    return cache_folder().joinpath(parts.netloc.rpartition("@")[2].replace(":", "_"), *names)


def cache_folder() -> Path:
    """Give the folder of the user's cache that downloads are in."""
    return Path(platformdirs.user_cache_dir("vlray")) / "weights"


def sha256(path: str | Path) -> str:
    """Give a file's SHA-256, hexadecimal; computed again only when the file has changed."""
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
            "Hugging Face hub (org/name)"
        )
    what = "is a folder" if path.is_dir() else "does not exist"
    raise ValueError(
        f"the file {source!r} {what} (looked for at {path.absolute()}); "
        "give the path of a file, a URL, or org/name on the Hugging Face hub"
    )


def _from_hub(repository: str, file: str, expected: str) -> Path:
    """Find a file of the hub: in its tools' cache, in ours, or there."""
    urls = {name: hub.url_of(repository, name) for name in ([file] if file else hub.FILES)}
    copies = [hub.cached(repository, name) for name in urls]
    for path in [*copies, *map(cache_path, urls.values())]:
        if path is not None and path.is_file():
            return path
    *others, last = urls.values()
    if hub.is_offline():
        raise ValueError(
            f"{repository} is not here, there is no such file either, and HF_HUB_OFFLINE forbids "
            f"to download it; put the file here by hand: {cache_path(next(iter(urls.values())))}"
        )
    for url in others:
        try:
            _download(url, cache_path(url), expected)
            return cache_path(url)
        except ValueError as error:
            if getattr(error.__cause__, "code", None) != http.HTTPStatus.NOT_FOUND:
                raise
    _download(last, cache_path(last), expected)
    return cache_path(last)


def _download(url: str, path: Path, expected: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with locked(path.with_name(f".{path.name}.lock")):
        if path.is_file():  # another process of this machine was first
            return
        logger.info("Downloading %s to %s", url, path)
        try:
            _fetch_all(_http_url(url), part)
        except (OSError, http.client.HTTPException) as error:
            closed = getattr(error, "code", None) in (401, 403)
            raise ValueError(
                f"{url} cannot be downloaded ({error or type(error).__name__}); "
                + ("set HF_TOKEN where the hub wants one, " if closed else "")
                + "try again when there is a connection (what arrived is kept), or put the file "
                f"here by hand: {path}"
            ) from error
        found = sha256(part)
        if expected and found != expected:
            part.unlink()
            raise ValueError(
                f"{url} has the SHA-256 {found}, but {expected} was asked for; "
                "the file was changed or replaced there: check where the address comes from"
            )
        part.replace(path)
        _validator_path(part).unlink(missing_ok=True)


def _fetch_all(url: str, part: Path) -> None:
    """Fetch until the file is whole; a broken transfer goes on where it stopped."""
    furthest = -1
    while True:
        try:
            return _fetch(url, part)
        except (OSError, http.client.HTTPException) as error:
            size = part.stat().st_size if part.exists() else 0
            refused = isinstance(error, urllib.error.HTTPError)
            if refused or size <= max(furthest, 0):  # no further than last time: no use
                raise
            furthest = size
            logger.warning("%s broke off after %d bytes (%s); going on", url, size, error)


def _fetch(url: str, part: Path) -> None:
    """Fetch the rest of a file, or all of it if the server's file is no longer the same.

    Raises:
        OSError: No connection, an error status, or fewer bytes than announced.
    """
    response = _request(url, part)
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if not resumed:
            _remember_validator(_validator_path(part), response.headers)
        with part.open("ab" if resumed else "wb") as file:
            length = response.headers["Content-Length"]
            total = file.tell() + int(length) if length else None
            with tqdm(
                desc=part.stem,
                total=total,
                initial=file.tell(),
                unit="B",
                unit_scale=True,
                disable=None,  # where there is no terminal
            ) as progress:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    progress.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            received = file.tell()
    if total is not None and received != total:
        raise ConnectionError(f"{received} of {total} bytes arrived")


def _request(url: str, part: Path) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "vlray"})
    if token := hub.token_for(url):  # not passed on to where the hub redirects to
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    validator = _validator_path(part)
    if part.exists() and validator.exists():
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        # The server sends everything if its file is not the one that the part is of.
        request.add_header("If-Range", validator.read_text())
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        validator.unlink()  # the last run ended just before the file got its name: begin again
        return _request(url, part)
    return response


def _validator_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def _remember_validator(path: Path, headers: http.client.HTTPMessage) -> None:
    """Keep what proves later that the server's file is still the same one."""
    etag = headers["ETag"] or ""
    validator = etag if etag and not etag.startswith("W/") else headers["Last-Modified"]
    if validator:
        path.write_text(validator)
    else:
        path.unlink(missing_ok=True)
