"""Files at http(s):// URLs, as a filesystem of pyarrow that reads them by range.

A server cannot list its folders, and nothing is written to it. Requests are repeated after outages
and errors of the server, with growing pauses.
"""

from __future__ import annotations

import functools
import time
import urllib.request
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from vlray.settings.secrets import redact
from vlray.storage.errors import WebError, WebMissingError
from vlray.version import __version__

if TYPE_CHECKING:
    import urllib3

CONNECT_S, READ_S = 10.0, 60.0  # time limits: for a connection, and between two pieces of an answer
WHOLE_S = 600.0  # time limit for one file that is read as a whole
WHOLE_BYTES = 1 << 30  # of such a file; a server may send without end
TRIES = 4
_BUSY = (429, 500, 502, 503, 504)  # statuses after which a request is repeated
_MISSING = (404, 410)
_SAFE = "/:!$&'()*+,;=@~[]"  # in a URL, besides letters and digits
_NO_HEAD = (403, 405, 501)  # a signed URL is often valid for GET only


def open_web(scheme: str, query: str) -> PyFileSystem:
    """Return the files of a scheme; their paths are ``HOST/PATH``.

    Args:
        scheme: ``http`` or ``https``.
        query: Query that is appended to every URL, as servers of protected files need it.
    """
    return PyFileSystem(_WebFiles(scheme, query))


def read_whole(fs: PyFileSystem, path: str) -> bytes:
    """Return the content of a file: one request.

    Raises:
        WebError: The server refuses, cannot be reached, or sends too much or too slowly.
    """
    url = fs.handler.url(path)
    end = time.monotonic() + WHOLE_S
    data = bytearray()
    with _request("GET", url) as answer:
        for piece in _pieces(answer, url):
            data += piece
            if len(data) > WHOLE_BYTES or time.monotonic() > end:
                raise WebError(
                    f"{redact(url)}: more than {WHOLE_BYTES:,} bytes or {WHOLE_S:.0f} s; download "
                    "the file"
                )
    return bytes(data)


def _pieces(answer: urllib3.BaseHTTPResponse, url: str) -> Any:
    import urllib3

    try:
        yield from answer.stream(1 << 20)
    except urllib3.exceptions.HTTPError as error:
        raise WebError(f"{redact(url)}: the answer was cut off ({redact(str(error))})") from error


@functools.lru_cache(maxsize=8)
def _pool(proxy: str) -> urllib3.PoolManager:
    import urllib3

    retries = urllib3.Retry(
        TRIES - 1, backoff_factor=0.5, status_forcelist=_BUSY, raise_on_status=False, redirect=10
    )
    options: dict[str, Any] = {
        "maxsize": 32,
        "retries": retries,
        "timeout": urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        # A compressed answer would have other sizes and ranges.
        "headers": {"User-Agent": f"vlray/{__version__}", "Accept-Encoding": "identity"},
    }
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _request(method: str, url: str, span: str = "") -> urllib3.BaseHTTPResponse:
    """Send a request, and return the answer with its content still to be read.

    Raises:
        WebError: The status is not one of success, or the server cannot be reached.
    """
    import urllib3

    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme, "")
    pool = _pool(proxy)
    headers = {**pool.headers, **({"Range": f"bytes={span}"} if span else {})}
    try:
        answer = pool.request(method, url, headers=headers, preload_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise WebError(
            f"{redact(url)}: the server cannot be reached, after {TRIES} attempts; check the "
            f"address and the network ({redact(str(error))})"
        ) from error
    if answer.status >= 400:
        answer.drain_conn()
        answer.release_conn()
        _refuse(answer, url)
    return answer


def _refuse(answer: urllib3.BaseHTTPResponse, url: str) -> NoReturn:
    said = f"{redact(url)}: the server answered {answer.status} {answer.reason}".rstrip()
    if answer.status in _MISSING:
        error: WebError = WebMissingError(f"{said}; check the URL")
    elif answer.status in (401, 403):
        error = WebError(f"{said}; the URL may have expired or need a login: download the file")
    elif answer.status in _BUSY:
        error = WebError(f"{said}, {TRIES} times; run the command again later")
    else:
        error = WebError(f"{said}; check the URL, or download the file")
    error.status = answer.status
    raise error


class _RangeFile:
    """A file at a URL, read by range."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._position = 0
        self.closed = False
        self.mode = "rb"

    @functools.cached_property
    def _size(self) -> int:
        return int(_look(self._url)[0] or 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, 0)[whence] if whence < 2 else self._size
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes from the position; -1: the rest."""
        left = max(0, self._size - self._position)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        span = f"{self._position}-{self._position + size - 1}"
        with _request("GET", self._url, span) as answer:
            if answer.status != 206 and size < self._size:
                raise WebError(
                    f"{redact(self._url)}: the server sends whole files only (no ranges); download "
                    "the file"
                )
            data = b"".join(_pieces(answer, self._url))
        self._position += len(data)
        return data

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        pass


def _look(url: str) -> tuple[int | None, int | None]:
    """Return the size of a file and its time in ns; None where the server does not tell."""
    try:
        answer = _request("HEAD", url)
    except WebError as error:
        if error.status not in _NO_HEAD:
            raise
        answer = _request("GET", url, "0-0")
    with answer:
        headers = answer.headers
        span = headers.get("Content-Range", "")
        size = span.rpartition("/")[2] if span else headers.get("Content-Length", "")
        modified = headers.get("Last-Modified", "")
        answer.close()  # a server without ranges would send the whole file
    try:
        seconds = int(parsedate_to_datetime(modified).timestamp())
    except ValueError:  # missing, or not a date
        seconds = 0
    return int(size) if size.isdigit() else None, seconds * 10**9 or None


class _WebFiles(FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """Files of one scheme; only reading is possible."""

    def __init__(self, scheme: str, query: str) -> None:
        self._scheme, self._query = scheme, query

    def url(self, path: str) -> str:
        query = f"?{self._query}" if self._query else ""
        return f"{self._scheme}://{quote(path, safe=_SAFE)}{query}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _WebFiles):
            return NotImplemented
        return (self._scheme, self._query) == (other._scheme, other._query)

    def __hash__(self) -> int:
        return hash((self._scheme, self._query))

    def get_type_name(self) -> str:
        return self._scheme

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> FileInfo:
        try:
            size, time_ns = _look(self.url(path))
        except FileNotFoundError:
            return FileInfo(path, FileType.NotFound)
        return FileInfo(path, FileType.File, size=size, mtime_ns=time_ns)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        raise WebError(
            f"{redact(self.url(selector.base_dir))}: folders at {self._scheme}:// cannot be listed;"
            " pass the URL of an archive, a table or a list of images, or names in braces"
        )

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(_RangeFile(self.url(path)), mode="r")

    open_input_stream = open_input_file

    def _refuse_writing(self, *_: object) -> NoReturn:
        raise WebError(f"vlray only reads from {self._scheme}://, and writes nothing there")

    open_output_stream = open_append_stream = create_dir = delete_dir = _refuse_writing
    delete_dir_contents = delete_root_dir_contents = delete_file = _refuse_writing
    move = copy_file = _refuse_writing
