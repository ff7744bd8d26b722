"""Answers, and what errors say to whoever asked by URL."""

import errno
import mimetypes
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from libernet.blocks.errors import (
    BlockNotFound,
    FormatError,
    LibernetError,
    NetworkError,
    StoreError,
    UnknownVersion,
)
from libernet.fs.web.requests import Refusal

Send = Callable[[bytes | memoryview], Awaitable[None]]
Body = Callable[[Send], Awaitable[None]]

PLAIN_TEXT = "text/plain; charset=utf-8"
ANY_BYTES = "application/octet-stream"

EVERYWHERE = {
    # Files of strangers are what their names say, and never what their bytes look like.
    "x-content-type-options": "nosniff",
    # Whoever has an address can read what it names: no other site is told it.
    "referrer-policy": "no-referrer",
    # Nor may a page from elsewhere show what is here, or find out whether it is.
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer."""

STRANGERS = {
    "content-security-policy": "sandbox allow-same-origin; default-src 'self' 'unsafe-inline' data:"
}
"""Pages in bundles are other people's: no scripts, no forms, and nothing from elsewhere, which
would tell who looks at them. They have their origin, or else their own pictures were from
elsewhere."""

UNCHANGING = {"cache-control": "private, max-age=31536000, immutable"}
"""What an address names is the same for ever; a year is as long as caches keep anything."""

PASSING = {"cache-control": "no-store"}
"""What may be otherwise at the next look."""

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UnknownVersion, 501),
    (FormatError, 502),
    # Never 404: it is there, its bytes cannot be had right now.
    (BlockNotFound, 504),
    (StoreError, 503),
    (NetworkError, 504),
    (FileNotFoundError, 404),
    (NotADirectoryError, 404),
    (TimeoutError, 504),
    (LibernetError, 502),
    (OSError, 502),
)
_STATUS_OF_ERRNO = {errno.ELOOP: 404, errno.ENXIO: 404, errno.ESTALE: 404}


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers by their lower-case names, and the body or what sends it.

    A body that is sent has as many bytes as the header `content-length` says, if there is one.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body = b""


def told(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer to a person."""
    return Answer(
        status,
        PASSING | {"content-type": PLAIN_TEXT} | dict(headers or {}),
        f"{sentence}\n".encode(errors="replace"),
    )


def answer_for(error: Refusal | LibernetError | OSError) -> Answer:
    """Return what to say about an error; errors without a reason of the client's are 5xx."""
    if isinstance(error, Refusal):
        return told(error.status, error.sentence, error.headers)
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if isinstance(error, OSError):
        status = _STATUS_OF_ERRNO.get(error.errno or 0, status)
        return told(status, error.strerror or "it cannot be read")
    return told(status, str(error))


def media_type(name: bytes) -> str:
    """Return what a file is by its name."""
    # The slash keeps a name like "data:text/html,x" from being taken for a URL of that kind.
    kind, encoding = mimetypes.guess_type("/" + os.fsdecode(name))
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else ANY_BYTES
    if kind is None:
        return ANY_BYTES
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
