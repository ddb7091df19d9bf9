"""Passes everything on to an S3 server but the second part of an upload, which is refused.

Prints a line for each answer: method, path and bytes of the body.

A process of its own, as the server is: pyarrow may hold the interpreter's lock while it waits.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = ("Transfer-Encoding", "Content-Length", "Expect", "Connection")


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # uploads ask before they send their body
    target = sys.argv[1]

    def handle_any(self) -> None:
        body = self.read_body()
        if "partNumber=2" in self.path:
            self.answer(403, {}, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
            return
        headers = {name: value for name, value in self.headers.items() if name not in HOP}
        request = urllib.request.Request(
            self.target + self.path, body or None, headers, method=self.command
        )
        try:
            with urllib.request.urlopen(request) as answer:
                self.answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self.answer(error.code, dict(error.headers), error.read())

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"  # its answer has the length of a body that it omits
        length = headers.get("Content-Length") if is_head else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(self.command, self.path, len(body), flush=True)

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - the library calls them so


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
