"""Removal of credentials and control characters from texts that are stored or printed."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"@]*@")
_QUERY = re.compile(
    r"([?&][^=&\s'\"]*(?:token|secret|password|passwd|credential|signature|sig|api_?key|access_?key)"
    r"[^=&\s'\"]*=)[^&#\s'\"]+",
    re.IGNORECASE,
)
# C0 without tab and line feed, delete, and C1: a terminal may execute sequences of them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def redact(text: str) -> str:
    """Replace user information and secret parameters of URIs in a text with ``***``."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<1>{HIDDEN}", _USER.sub(rf"\g<1>{HIDDEN}@", text))


def redact_all(value: Any) -> Any:
    """Return a copy of nested dictionaries and lists with all texts redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(item) for item in value]
    return value


def has_credentials(uri: str) -> bool:
    """Return whether a URI has user information before its host; ``anonymous@`` does not count."""
    return _USER.match(uri) is not None and "://anonymous@" not in uri


def show(value: object, end: str = "\n") -> None:
    """Print a text, or a path, with its control characters escaped."""
    print(printable(str(value)), end=end)


def printable(text: str) -> str:
    r"""Escape control characters, such as ``\x1b``, which names from files may contain."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
