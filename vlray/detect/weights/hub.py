"""Names on the Hugging Face hub: their addresses, and the copies its own tools keep here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit

FILES = ("pytorch_model.bin", "model.safetensors")
"""What a repository's weights are called, where a name does not say it: tried in this order."""

WEIGHTS_ENDINGS = frozenset((".bin", ".pkl", ".pt", ".pth", ".safetensors"))
"""What the names of weights files end with."""

_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:/(.+))?")
_REVISION = "main"


def parse_name(source: str) -> tuple[str, str] | None:
    """Read ``org/name`` or ``org/name/file``; None for what is a local path or a URL.

    A path wins: what exists here, what lies in a folder that exists here, and ``folder/file.pth``.

    Returns:
        The repository and the file in it, empty where the name does not say.
    """
    match = _NAME.fullmatch(source)
    if match is None or ".." in source.split("/"):
        return None
    repository, file = match[1], match[2] or ""
    is_path = Path(source).exists() or Path(repository.split("/")[0]).is_dir()
    if is_path or (not file and repository.endswith(tuple(WEIGHTS_ENDINGS))):
        return None
    return repository, file


def url_of(repository: str, file: str) -> str:
    """Give the address of a file, on ``HF_ENDPOINT`` if that is set."""
    return f"{_endpoint()}/{repository}/resolve/{_REVISION}/{quote(file)}"


def cached(repository: str, file: str) -> Path | None:
    """Give the copy of a file that Hugging Face's own tools downloaded before, if there is one.

    Source:
        https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    folder = _cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / _REVISION).read_text().strip()
    except OSError:
        return None
    path = folder / "snapshots" / commit / file
    return path if path.is_file() else None


def token_for(url: str) -> str:
    """Give ``HF_TOKEN`` for an address on the hub; nobody else is told it."""
    same = urlsplit(url)[:2] == urlsplit(_endpoint())[:2]
    return os.environ.get("HF_TOKEN", "").strip() if same else ""


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _cache() -> Path:
    """Give the folder of the hub's downloads, by the variables that its tools go by."""
    if place := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(place).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    return Path(home).expanduser() / "hub"
