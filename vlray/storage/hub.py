"""Downloads from the Hugging Face Hub through its client and cache. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import huggingface_hub  # imports its modules, such as a slow HTTP client, only when they are used

_NAME = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)(?:/(.+))?")


def parse_name(source: str, endings: Sequence[str]) -> tuple[str, str] | None:
    """Split ``org/name`` or ``org/name/file``; return None for a local path or a URL.

    Local paths take precedence: existing paths, paths in an existing folder, and
    ``folder/file.pth``.

    Args:
        source: Name or path from the user.
        endings: File suffixes, such as ``.pth``, that mark ``folder/file.pth`` as a path.

    Returns:
        The repository and the file in it; the file is empty if ``source`` names only a repository.
    """
    match = _NAME.fullmatch(source)
    if match is None or ".." in source.split("/"):
        return None
    repository, file = match[1], match[2] or ""
    is_path = Path(source).exists() or Path(repository.split("/")[0]).is_dir()
    if is_path or (not file and repository.endswith(tuple(endings))):
        return None
    return repository, file


def download(repository: str, names: Sequence[str]) -> Path:
    """Download the first of ``names`` that exists in a repository; return its local path.

    If any of the files is cached, its path is returned without a request.

    Raises:
        ValueError: The repository has none of the files, or the Hub cannot be reached.
    """
    for name in names:
        if path := _cached(repository, name):
            return path
    from huggingface_hub.errors import HfHubHTTPError

    for name in names:
        try:
            check(repository, name)
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except FileNotFoundError:
            continue
        except (OSError, HfHubHTTPError) as error:
            raise _explained(repository, name, error) from error
    raise ValueError(
        f"the repository {repository} on the Hugging Face Hub has no {' or '.join(names)} (404); "
        "pass a file in it: org/name/file"
    )


def download_if_there(repository: str, name: str) -> Path | None:
    """Download a file that a repository may not have; return None if it does not.

    The cache remembers files that do not exist, so that a later call needs no connection.

    Raises:
        ValueError: The Hub cannot be reached, or denies access.
    """
    cached = huggingface_hub.try_to_load_from_cache(repository, name)
    if cached is huggingface_hub._CACHED_NO_EXIST:
        return None
    try:
        check(repository, name)
    except FileNotFoundError:
        # The download fails, too, but only it records this in the cache.
        with suppress(OSError):
            huggingface_hub.hf_hub_download(repository, name)
        return None
    return Path(huggingface_hub.hf_hub_download(repository, name))


def check(repository: str, name: str) -> None:
    """Check with a single request that the Hub has a file, unless it is cached.

    Without a connection this fails immediately, whereas ``hf_hub_download`` retries for 24 seconds,
    which no option can prevent.

    Raises:
        FileNotFoundError: The repository does not have the file.
        ValueError: The Hub cannot be reached, or denies access.
    """
    if _cached(repository, name):
        return
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, name))
    except RemoteEntryNotFoundError as error:
        raise FileNotFoundError(f"{repository} has no {name}") from error
    except Exception as error:  # from the HTTP client, which depends on the Hub version
        raise _explained(repository, name, error) from error


def first_line(error: Exception) -> str:
    """Return the first line of a Hub client's error, whose message has many lines."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of a Hub client's error; None if there was no response."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _cached(repository: str, name: str) -> Path | None:
    path = huggingface_hub.try_to_load_from_cache(repository, name)
    # The cache may also return None, or a marker that the repository does not have the file.
    return Path(path) if isinstance(path, str) else None


def _explained(repository: str, name: str, error: Exception) -> ValueError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return ValueError(
            f"{repository}/{name} is not in the cache of the Hugging Face Hub, and HF_HUB_OFFLINE "
            "forbids downloads; unset it, or pass the path of a copy on this machine"
        )
    advice = "try again when there is a connection"
    if status_of(error) in (401, 403, 404):
        advice = "check the name, and set HF_TOKEN if the repository is private or gated"
    return ValueError(
        f"{repository}/{name} cannot be downloaded from the Hugging Face Hub "
        f"({first_line(error)}); {advice}, or pass the path of a copy on this machine"
    )
