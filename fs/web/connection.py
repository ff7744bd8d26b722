"""One connection to the view by URL: HTTP/1.1 by h11, with bounded waits and bounded memory."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import h11
import trio

from libernet.blocks.errors import LibernetError
from libernet.fs.web.answers import EVERYWHERE, Answer, answer_for
from libernet.fs.web.requests import MAX_HEAD_BYTES, Refusal, checked_request
from libernet.fs.web.site import Site

RECEIVE_BYTES = 16 * 1024

MAX_IGNORED_BYTES = 64 * 1024
"""How much of a refused body is read, so that the client gets to the answer before the reset."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebLimits:
    """How much of this node whoever asks by URL may use.

    *head_seconds*: from the first byte of a request to the end of its head. *idle_seconds*: until
    that first byte. *send_seconds*: for 256 KiB of an answer; a film that pauses longer is asked
    for again, from there. *linger_seconds*: for a refused client to read why.
    """

    connections: int = 64
    head_seconds: float = 10
    idle_seconds: float = 30
    send_seconds: float = 60
    linger_seconds: float = 2


class Connection:
    """Serve one client until it leaves or overstays.

    State: `_http`, how far both sides are. Tasks: `run`.
    """

    def __init__(
        self, site: Site, port: int, stream: trio.abc.HalfCloseableStream, limits: WebLimits
    ) -> None:
        self._site = site
        self._port = port
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def run(self) -> None:
        """Return when the connection is over, whatever the reason; the stream is then closed."""
        try:
            await self._serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # it has left, or takes nothing
        except (LibernetError, OSError) as error:
            _log.warning("an answer by URL ended too early: %s", error)
        except Exception:  # noqa: BLE001 - the edge: it costs one connection, and not the mount
            _log.exception("a connection to the view by URL failed")
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _serve(self) -> None:
        while await self._serve_one():
            self._http.start_next_cycle()
        with trio.move_on_after(self._limits.linger_seconds):
            await self._stream.send_eof()
            ignored_bytes = 0
            while ignored_bytes < MAX_IGNORED_BYTES:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                ignored_bytes += len(data)

    async def _serve_one(self) -> bool:
        """Answer a request; return whether another may follow."""
        try:
            request = await self._receive_head()
            if request is None:
                return False
            asked = checked_request(request, self._port)
        except Refusal as refusal:
            await self._send(answer_for(refusal), keep=False)
            return False
        async with self._site.answering(asked) as answer:
            await self._send(answer, is_head=asked.is_head)
        with suppress(h11.RemoteProtocolError):
            self._http.next_event()
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _receive_head(self) -> h11.Request | None:
        """Return the head of the next request, None if none comes; Refusal if it is malformed."""
        started = bool(self._http.trailing_data[0])
        wait = self._limits.head_seconds if started else self._limits.idle_seconds
        with trio.move_on_after(wait) as waiting:
            while True:
                try:
                    event = self._http.next_event()
                except h11.RemoteProtocolError as error:
                    raise Refusal(error.error_status_hint, f"no request: {error}") from error
                if isinstance(event, h11.Request):
                    return event
                if event is not h11.NEED_DATA:
                    return None  # it has left
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not started:
                    waiting.deadline = trio.current_time() + self._limits.head_seconds
                    started = True
                try:
                    self._http.receive_data(bytes(data))
                except h11.RemoteProtocolError as error:
                    raise Refusal(error.error_status_hint, f"no request: {error}") from error
        if started:
            raise Refusal(408, f"a request comes within {self._limits.head_seconds:g} s")
        return None

    async def _send(self, answer: Answer, *, is_head: bool = False, keep: bool = True) -> None:
        headers = EVERYWHERE | dict(answer.headers)
        if isinstance(answer.body, bytes) and answer.status != 304:
            # An answer to HEAD says how long the body would be: its own, or the one told before.
            headers.setdefault("content-length", str(len(answer.body)))
        if not keep:
            headers["connection"] = "close"
        await self._send_event(_head(answer.status, headers))
        if not is_head:
            if isinstance(answer.body, bytes):
                await self._send_piece(answer.body)
            else:
                await answer.body(self._send_piece)
        await self._send_event(h11.EndOfMessage())

    async def _send_piece(self, piece: bytes | memoryview) -> None:
        if piece:
            await self._send_event(h11.Data(data=piece))  # type: ignore[arg-type] # any buffer

    async def _send_event(self, event: h11.Event) -> None:
        pieces = self._http.send_with_data_passthrough(event) or []
        with trio.fail_after(self._limits.send_seconds):
            for piece in pieces:
                if piece:
                    await self._stream.send_all(piece)


def _head(status: int, headers: Mapping[str, str]) -> h11.Response:
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return h11.Response(status_code=status, headers=encoded)
