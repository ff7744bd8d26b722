"""One question and its answer in HTTP/1.1, over any stream; every size has a limit.

h11 reads heads and chunks. A body whose length is known goes past it, from the socket to its place
in the buffer, so that it is not copied before it is checked.
"""

from collections.abc import Callable
from dataclasses import dataclass

import h11
import trio

from libernet.blocks.errors import PeerUnreachable, RemoteProtocolError
from libernet.net.address import PeerAddress
from libernet.net.exchange.signing import NODE_HEADER, SIGNATURE_HEADER, Signature
from libernet.net.exchange.streams import ByteStream

MAX_HEAD_BYTES = 8 * 1024
"""Longest head of an answer, what RFC 9112 section 3 asks of servers; ours has 250 bytes."""

MAX_HEADERS = 64

MAX_INTERIM_ANSWERS = 4
"""Most 1xx answers before the real one. We ask for none, but a proxy may send some."""

MAX_ERROR_BODY_BYTES = 16 * 1024
"""Longest explanation of a refusal that is read, only to keep the connection; more ends it."""

MAX_PIECES = 4096
"""Most pieces of a body sent in chunks, 256 bytes each for the largest: each costs about 10 us."""

_RECEIVE_BYTES = 16 * 1024
_NOTHING = memoryview(b"")


def unheard(received_bytes: int) -> None:
    """Take no notice of what comes."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request; a successful answer with more than *max_body_bytes* breaks the protocol.

    With a body, perhaps an empty one, it may have a type. *sign* makes the signature of a node,
    anew each time that the question is sent: a peer takes no signature twice. *heard* is told how
    many bytes came, each time that some do.
    """

    method: str
    path: str
    max_body_bytes: int = 0
    body: bytes | None = None
    body_type: str = ""
    sign: Callable[[], Signature] | None = None
    heard: Callable[[int], None] = unheard


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer; *body* lies in the buffer, and is empty for a refusal too long to read.

    *node_key* is what the peer says that its public key is, in hex. *can_follow*: another question
    may be asked on the same stream.
    """

    status: int
    content_type: str
    node_key: str
    body: memoryview
    can_follow: bool


async def ask(
    peer: PeerAddress, stream: ByteStream, question: Question, buffer: memoryview
) -> Answer:
    """Return what *peer* answers to *question*, whatever the status.

    *buffer* has room for `question.max_body_bytes` and for MAX_ERROR_BODY_BYTES. Waits as long as
    the caller lets it. Raises RemoteProtocolError, and PeerUnreachable when the connection breaks
    off.
    """
    try:
        return await _Exchange(peer, stream, buffer).run(question)
    except h11.RemoteProtocolError as exc:
        raise RemoteProtocolError(f"peer {peer} does not answer in HTTP/1.1: {exc}") from exc
    except trio.BrokenResourceError as exc:
        raise PeerUnreachable(f"the connection to peer {peer} broke: {exc}") from exc


class _Exchange:
    """State: `_http`, which knows everything received but bodies of known length."""

    def __init__(self, peer: PeerAddress, stream: ByteStream, buffer: memoryview) -> None:
        self._peer = peer
        self._stream = stream
        self._buffer = buffer
        self._scratch = memoryview(bytearray(_RECEIVE_BYTES))
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def run(self, question: Question) -> Answer:
        await self._send(question)
        head = await self._receive_head()
        is_kept = self._http.our_state is h11.DONE  # else it is MUST_CLOSE
        body, is_complete = await self._receive_body(question, head)
        return Answer(
            head.status_code,
            _header(head, b"content-type"),
            _header(head, NODE_HEADER.encode()),
            body,
            can_follow=is_kept and is_complete,
        )

    async def _send(self, question: Question) -> None:
        headers = [("host", str(self._peer)), ("accept-encoding", "identity")]
        if question.body is not None:
            headers.append(("content-length", str(len(question.body))))
        if question.body_type:
            headers.append(("content-type", question.body_type))
        if question.sign is not None:
            headers.append((SIGNATURE_HEADER, str(question.sign())))
        request = h11.Request(method=question.method, target=question.path, headers=headers)
        data = self._http.send(request) or b""
        if question.body:
            data += self._http.send(h11.Data(question.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            if not question.body:
                raise
            # It may have hung up on the body, after it said why.

    async def _receive_head(self) -> h11.Response:
        for _ in range(MAX_INTERIM_ANSWERS + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                self._check_head(event)
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                break
        raise self._broken("sent no final answer")

    def _check_head(self, head: h11.Response) -> None:
        if len(head.headers) > MAX_HEADERS:
            raise self._broken(f"sent {len(head.headers)} headers, the limit is {MAX_HEADERS}")
        encoding = _header(head, b"content-encoding")
        if head.status_code == 200 and encoding not in ("", "identity"):
            raise self._broken(f"encoded its answer as {encoding[:40]!r}, which nobody asked for")

    async def _receive_body(
        self, question: Question, head: h11.Response
    ) -> tuple[memoryview, bool]:
        """Return the body, and whether another answer may follow it."""
        limit = question.max_body_bytes if head.status_code == 200 else MAX_ERROR_BODY_BYTES
        length = _known_length(question, head)
        if length is None:
            return await self._receive_pieces(head, limit)
        if length > limit:
            return self._too_long(head, f"{length} bytes", limit)
        return await self._receive_bytes(length)

    async def _receive_bytes(self, length: int) -> tuple[memoryview, bool]:
        early, _ = self._http.trailing_data
        have = min(len(early), length)
        self._buffer[:have] = early[:have]
        while have < length:
            count = await self._stream.receive_into(self._buffer[have:length])
            if not count:
                raise self._ended(f"after {have} of {length} bytes")
            have += count
        return self._buffer[:length], len(early) <= length

    async def _receive_pieces(self, head: h11.Response, limit: int) -> tuple[memoryview, bool]:
        """Receive a body that is sent in chunks, ends with the connection or does not exist."""
        size = 0
        for _ in range(MAX_PIECES + 1):
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                is_kept = self._http.their_state is h11.DONE and not self._http.trailing_data[0]
                return self._buffer[:size], is_kept
            end = size + len(event.data)
            if end > limit:
                return self._too_long(head, f"{end} bytes or more", limit)
            self._buffer[size:end] = event.data
            size = end
        raise self._broken(f"sent its answer in more than {MAX_PIECES} pieces")

    async def _next_event(self) -> h11.Response | h11.InformationalResponse | h11.Data | None:
        """Return what comes next, None for the end of the answer."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            count = await self._stream.receive_into(self._scratch)
            self._http.receive_data(bytes(self._scratch[:count]))
            if not count:
                event = self._event_at_the_end()
                break
        if isinstance(event, h11.ConnectionClosed):
            raise self._ended("without an answer")
        if isinstance(event, h11.Response | h11.InformationalResponse | h11.Data):
            return event
        return None

    def _event_at_the_end(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as exc:
            raise self._ended("within its answer") from exc

    def _too_long(self, head: h11.Response, size: str, limit: int) -> tuple[memoryview, bool]:
        if head.status_code == 200:
            raise self._broken(f"answers with {size}, the limit is {limit}")
        return _NOTHING, False

    def _broken(self, reason: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"peer {self._peer} {reason}")

    def _ended(self, when: str) -> PeerUnreachable:
        return PeerUnreachable(f"peer {self._peer} closed the connection {when}")


def _known_length(question: Question, head: h11.Response) -> int | None:
    """Return how long the body is if the head says so and there is one."""
    if question.method == "HEAD" or head.status_code in (204, 304):
        return None
    if _header(head, b"transfer-encoding"):  # RFC 9112 section 6.3: it overrides the length
        return None
    length = _header(head, b"content-length")
    return int(length) if length else None  # h11 has made sure that it is a number


def _header(head: h11.Response, name: bytes) -> str:
    """Return a header, the first if there are several, empty if there is none."""
    for key, value in head.headers:
        if key == name:
            return value.decode("latin-1").strip().lower()
    return ""
