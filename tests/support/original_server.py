"""The originals' block servers, as formats/libernet.md section 4 and the vectors describe them.

They share no code with ours. They do what is careless as well: what is put is neither checked nor
bounded, and replaces what was there.
"""

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_HTML = "text/html; charset=utf-8"
_BLOCK = "application/octet-stream"
_ID_CHARACTERS = 64
_MOST_LIKE = 100


class Answer(NamedTuple):
    """An answer; its body is left out for HEAD, and its length is not."""

    status: int
    body: bytes = b""
    content_type: str = _HTML
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


class MainServer:
    """The branch main.

    State: `blocks`, what is stored by id; `likes`, every search that was made, merged for ever;
    `requests`, the method and path of each.
    """

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.likes: dict[str, dict[str, int]] = {}
        self.requests: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        self.requests.append((method, path))
        match path.split("/"):
            case ["", "sha256", "like", target, *_]:
                return self._like(method, target)
            case ["", "sha256", block_id]:
                return self._block(method, block_id, headers, body)
            case ["", "sha256", _, "aes256" | "passphrase", _]:
                return Answer(500, b"<title>500 Internal Server Error</title>")
        return Answer(404, b"<title>404 Not Found</title>")

    def _block(self, method: str, block_id: str, headers: Any, body: bytes) -> Answer:
        if method == "OPTIONS":
            return Answer(200, headers={"allow": "GET, PUT, OPTIONS, HEAD"})
        if method not in {"GET", "HEAD", "PUT"}:
            return Answer(405, b"405", headers={"allow": "GET, PUT, OPTIONS, HEAD"})
        if len(block_id) != _ID_CHARACTERS:
            return Answer(500, b"<title>500 Internal Server Error</title>")
        if method == "PUT":
            is_form = headers.get("content-type", "").startswith(_FORMS)
            self.blocks[block_id] = b"" if is_form else body  # the framework has eaten a form
            return Answer(200, b"data received")
        if block_id not in self.blocks:
            return Answer(504, b"Data not currently on node")
        return Answer(200, self.blocks[block_id], _BLOCK)

    def _like(self, method: str, target: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return Answer(405, b"405", headers={"allow": "GET, OPTIONS, HEAD"})
        near = sorted(
            (each for each in self.blocks if each[:3] == target[:3]),
            key=lambda each: int(each, 16) ^ int(target, 16),
        )
        found = self.likes.setdefault(target, {})
        found |= {f"/sha256/{each}": len(self.blocks[each]) for each in near[:_MOST_LIKE]}
        return Answer(200 if found else 404, json.dumps(found).encode(), "application/json")


class RewriteServer:
    """The branch python_rewrite, as far as it serves blocks without their keys."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        self.requests.append((method, path))
        match path.split("/"):
            case ["", "sha256", block_id] if len(block_id) == _ID_CHARACTERS:
                if method in {"GET", "HEAD"}:
                    return self._block(block_id, path, headers)
                if method == "PUT" and "x-libernet-author" in headers:
                    self.blocks[block_id] = body
                    return Answer(200, _page("Thank you for sending the data"))
            case ["", "sha256", "like", _]:
                pass
            case _:
                return Answer(404, _page(f"{path} not found"))
        return Answer(500 if method in {"GET", "HEAD", "PUT"} else 405, b"<title>error</title>")

    def _block(self, block_id: str, path: str, headers: Any) -> Answer:
        stored = self.blocks.get(block_id)
        if stored is None:
            return Answer(409, _page(f"{path} not available yet"))
        if hashlib.sha256(stored).hexdigest() != block_id:
            try:
                stored = zlib.decompress(stored)
            except zlib.error:
                return Answer(400, _page(f"{path} unable to decrypt"))
        told = {
            "content-disposition": f"attachment; filename={block_id}",
            "cache-control": "public, max-age=31536000",
            "etag": f'"{block_id}"',
        }
        if headers.get("if-none-match") == told["etag"]:
            return Answer(304, headers=told)
        first, dash, last = headers.get("range", "").removeprefix("bytes=").partition("-")
        if not dash:
            return Answer(200, stored, _BLOCK, told)
        part = stored[int(first) : int(last) + 1]
        return Answer(206, part, _BLOCK, told | {"accept-ranges": "bytes"})


def _page(text: str) -> bytes:
    return f"<html><body>{text}</body></html>".encode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    original: MainServer | RewriteServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _respond(self) -> None:
        assert isinstance(self.server, _Listener)
        answer = self.server.original.answer(self.command, self.path, self.headers, self._body())
        self.send_response(answer.status)
        if answer.status != 304:
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _respond

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def listening(original: MainServer | RewriteServer) -> Iterator[int]:
    """Let an original listen on a port of this machine, in a thread of its own."""
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        listener.original = original
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()
