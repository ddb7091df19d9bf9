"""Errors of object storage and web servers, with the name of the file and a way out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


class WebError(OSError):
    """Raised when a web server refuses a request or cannot be reached; names the URL."""

    status = 0  # of the answer; 0: there was none


class WebMissingError(WebError, FileNotFoundError):
    """Raised when a web server does not have a file."""


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Convert object storage errors to errors that name the URI and suggest a solution."""
    try:
        yield
    except OSError as error:
        # Errors from the operating system and of `vlray.storage.web` already name the file.
        if error.errno is not None or isinstance(error, WebError):
            raise
        text = str(error)
        for code, kind, advice in _ADVICE:
            if re.search(code, text):
                raise kind(f"{uri}: {advice} ({text})") from error
        raise OSError(f"{uri}: {text}") from error


_ADVICE: tuple[tuple[str, type[OSError], str], ...] = (
    ("NO_SUCH_BUCKET|[Bb]ucket.*not (exist|found)", FileNotFoundError, "the bucket does not exist"),
    (
        "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID"
        "|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|HTTP status (401|403)"
        "|PermissionDenied|Unauthenticated",
        PermissionError,
        "access is denied; check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, "
        "GOOGLE_APPLICATION_CREDENTIALS) and the bucket's policy",
    ),
    (
        "NETWORK_CONNECTION|Could not (connect|resolve)|Connection refused",
        ConnectionError,
        "the storage cannot be reached; check the network, AWS_ENDPOINT_URL and the region",
    ),
)
