"""Requests as h11 has parsed them, checked before anything is looked up.

The listener is bound to loopback, but every web page that a browser on this machine shows can make
it ask here. It cannot read the answers of another origin, unless its host's name has been made to
lead here (DNS rebinding): so a request must name this host, and come from no other origin. Nor may
it embed what is here, where the browser says so: a picture that shows tells that it is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import h11

MAX_HEAD_BYTES = 32 * 1024
"""Longest request head: a path of 4,095 bytes, each percent-encoded, and what browsers send."""

MAX_HEADERS = 100
"""Most header lines; browsers send about 20."""

HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""What this machine is called by who asks for its own pages."""

_FROM_ELSEWHERE = "pages from elsewhere may not ask for anything here"
_METHODS = frozenset({b"GET", b"HEAD"})


class Refusal(Exception):
    """A request that is answered by *status* and a *sentence*, whatever it asks for."""

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Request:
    """A GET, or a HEAD, of *path*, which is as it was sent, without the query.

    *headers* by their lower-case names; one that was sent more than once has commas between.
    """

    path: str
    is_head: bool
    headers: Mapping[str, str]


def checked_request(request: h11.Request, port: int) -> Request:
    """Return what was asked of the listener on *port*, or raise Refusal."""
    if len(request.headers) > MAX_HEADERS:
        raise Refusal(431, f"a request has at most {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path, authority = _split(request.target.decode("ascii"))
    if authority is not None:
        headers["host"] = authority
    _check_origin(headers, port)
    if request.method not in _METHODS:
        raise Refusal(405, "everything here is only read: GET or HEAD it", {"allow": "GET, HEAD"})
    if "transfer-encoding" in headers or headers.get("content-length", "0").strip("0"):
        raise Refusal(413, "a request has no body")
    return Request(path.partition("?")[0], request.method == b"HEAD", headers)


def _split(target: str) -> tuple[str, str | None]:
    """Return path and, if it is there (RFC 9112 section 3.2.2), authority of a request target."""
    if target.startswith("/"):
        return target, None
    if target[:7].lower() == "http://":
        authority, slash, rest = target[7:].partition("/")
        return slash + rest or "/", authority
    raise Refusal(400, "ask for a path that begins with a slash")


def _check_origin(headers: Mapping[str, str], port: int) -> None:
    host = headers.get("host", "").lower()
    own = {f"{name}:{port}" for name in HOSTS} | (set(HOSTS) if port == 80 else set())
    if host not in own:
        raise Refusal(403, f"this is asked for as http://{HOSTS[0]}:{port}/ only")
    if headers.get("origin", f"http://{host}").lower() != f"http://{host}":
        raise Refusal(403, _FROM_ELSEWHERE)
    # https://www.w3.org/TR/fetch-metadata/: links lead here from anywhere, in their own window.
    is_followed = headers.get("sec-fetch-mode") == "navigate"
    is_whole = headers.get("sec-fetch-dest", "document") == "document"
    is_near = headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
    if not is_near and not (is_followed and is_whole):
        raise Refusal(403, _FROM_ELSEWHERE)
