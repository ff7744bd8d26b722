"""Connections to the view by URL: any bytes are answered or ended, in time and within limits."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from libernet.blocks.errors import BlockNotFound
from libernet.fs.web.answers import Answer, Send
from libernet.fs.web.connection import WebLimits
from libernet.fs.web.requests import MAX_HEAD_BYTES, MAX_HEADERS, Request
from libernet.fs.web.server import WebServer
from tests.support.web import HOST, PORT, parsed

LIMITS = WebLimits()
GET = f"GET /a HTTP/1.1\r\nhost: {HOST}\r\n".encode()
END = b"\r\n"
_LARGE = bytes(256 * 1024)


class SmallSite:
    """Answers with the path; /large for ever, /broken with less than it said."""

    @asynccontextmanager
    async def answering(self, request: Request) -> AsyncIterator[Answer]:
        if request.path == "/large":
            yield Answer(200, {}, _for_ever)
        elif request.path == "/broken":
            yield Answer(200, {"content-length": "10"}, _broken)
        else:
            yield Answer(200, {}, request.path.encode())


async def _for_ever(send: Send) -> None:
    while True:
        await send(_LARGE)


async def _broken(send: Send) -> None:
    await send(b"12345")
    raise BlockNotFound("nobody has it")


Client = Callable[[trio.abc.Stream], Awaitable[None]]


def serve(client: Client, limits: WebLimits = LIMITS) -> tuple[float, WebServer]:
    """Let *client* talk to a server on a virtual clock; return when that was over."""
    ended = 0.0

    async def main() -> None:
        nonlocal ended
        near, far = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client, near)
            began = trio.current_time()
            await server.serve(far, PORT)
            ended = trio.current_time() - began
            nursery.cancel_scope.cancel()
        assert server.connections == 0

    server: Any = WebServer(SmallSite(), limits=limits)  # type: ignore[arg-type] # as much of a site
    trio.run(main, clock=MockClock(autojump_threshold=0))
    return ended, server


def converse(sent: bytes, *, leaves: bool = True) -> list[bytes]:
    """Send bytes, and return what came as [all of it] when the server has closed."""
    received = bytearray()

    async def client(stream: Any) -> None:
        await stream.send_all(sent)
        if leaves:
            await stream.send_eof()
        async for piece in stream:
            received.extend(piece)
        await stream.aclose()

    serve(client)
    return [bytes(received)]


def status_of(sent: bytes) -> int:
    [raw] = converse(sent)
    return parsed(raw).status


def test_requests_come_one_after_the_other_on_one_connection() -> None:
    [raw] = converse(3 * (GET + END) + GET + b"connection: close\r\n\r\n")
    assert raw.count(b"HTTP/1.1 200") == 4
    assert raw.count(b"\r\n\r\n/a") == 4


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.0\r\n\r\n", 403),
        (GET + GET[17:] + END, 400),
        (GET + b"no colon\r\n\r\n", 400),
        (GET.replace(b"GET", b"PUT") + b"content-length: 0\r\n\r\n", 405),
        (GET.replace(b"GET", b"POST") + b"content-length: 5\r\n\r\n12345", 405),
        (GET.replace(b"GET", b"CONNECT") + END, 405),
        (GET + b"content-length: 5\r\n\r\n12345", 413),
        (GET + b"content-length: 99999999999999\r\n\r\n", 413),
        (GET + b"transfer-encoding: chunked\r\n\r\n", 413),
        (GET + b"content-length: x\r\n\r\n", 400),
        (GET + b"x: y\r\n" * MAX_HEADERS + END, 431),
        (GET + b"x: " + b"y" * MAX_HEAD_BYTES, 431),
        (b"GET /" + b"y" * (3 * MAX_HEAD_BYTES), 431),
        (GET.replace(b"/a", b"*") + END, 400),
        (GET + b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n", 200),
        (GET + b"content-length: 0\r\n\r\n", 200),
    ],
)
def test_what_is_no_request_for_anything_here_is_refused(sent: bytes, status: int) -> None:
    assert status_of(sent) == status


def test_a_refusal_ends_the_connection() -> None:
    [raw] = converse(GET.replace(b"GET", b"PUT") + b"content-length: 5\r\n\r\n12345" + GET + END)
    assert raw.count(b"HTTP/1.1") == 1
    assert b"connection: close" in raw


def test_a_body_that_breaks_off_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    [raw] = converse(GET.replace(b"/a", b"/broken") + END + GET + END)
    assert raw.endswith(b"12345")
    assert raw.count(b"HTTP/1.1") == 1
    assert "ended too early: nobody has it" in caplog.text


def test_who_sends_a_head_slowly_is_told_and_left() -> None:
    received = bytearray()

    async def slow(stream: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, stream)
            with suppress(trio.BrokenResourceError):
                for byte in GET:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)

    async def receive(stream: Any) -> None:
        async for piece in stream:
            received.extend(piece)

    ended, _ = serve(slow)
    assert ended <= LIMITS.head_seconds + LIMITS.linger_seconds + 1
    assert parsed(bytes(received)).status == 408


def test_who_asks_nothing_is_left() -> None:
    async def silent(stream: Any) -> None:
        await trio.sleep_forever()

    ended, _ = serve(silent)
    assert ended == LIMITS.idle_seconds + LIMITS.linger_seconds


def test_who_asks_once_and_stays_is_left() -> None:
    async def idle(stream: Any) -> None:
        await stream.send_all(GET + END)
        await trio.sleep_forever()

    ended, _ = serve(idle)
    assert ended == LIMITS.idle_seconds + LIMITS.linger_seconds


def test_who_takes_nothing_is_left_and_costs_one_piece_of_memory() -> None:
    taken: list[float] = []

    async def stuck(stream: Any) -> None:
        await stream.send_all(GET.replace(b"/a", b"/large") + END)
        await trio.sleep_forever()

    async def main() -> None:
        near, far = lockstep_stream_pair()
        server: Any = WebServer(SmallSite())  # type: ignore[arg-type] # as much of a site
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck, near)
            await server.serve(far, PORT)
            taken.append(trio.current_time())
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert taken == [LIMITS.send_seconds]


def test_a_client_that_leaves_in_mid_answer_ends_it() -> None:
    async def leaving(stream: Any) -> None:
        await stream.send_all(GET.replace(b"/a", b"/large") + END)
        await stream.receive_some(1000)
        await stream.aclose()

    ended, _ = serve(leaving)
    assert ended == 0


async def test_more_connections_than_may_be_are_turned_away() -> None:
    server: Any = WebServer(SmallSite(), limits=WebLimits(connections=3))  # type: ignore[arg-type] # as much of a site
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            _, far = memory_stream_pair()
            nursery.start_soon(server.serve, far, PORT)
        await wait_all_tasks_blocked()
        near, far = memory_stream_pair()
        nursery.start_soon(server.serve, far, PORT)
        answer = b"".join([piece async for piece in near])
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert server.connections == 3
        nursery.cancel_scope.cancel()
    assert server.connections == 0


_words = st.sampled_from(
    [
        GET,
        GET + END,
        END,
        b"GET ",
        b"HEAD /large",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"PUT / HTTP/1.1\r\n",
        f"host: {HOST}\r\n".encode(),
        b"host: evil.example\r\n",
        b"origin: null\r\n",
        b"connection: close\r\n",
        b"connection: keep-alive\r\n",
        b"content-length: 3\r\n",
        b"content-length: 00\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"upgrade: h2c\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"http://localhost:8042/\xff",
        b"/%00/../a?b#c",
    ]
)


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@settings(deadline=None, max_examples=300)
@given(sent=st.lists(_words | st.binary(max_size=30), max_size=10), leaves=st.booleans())
def test_any_bytes_are_answered_or_refused_quietly(sent: list[bytes], leaves: bool) -> None:
    complaints = _Complaints()
    log = logging.getLogger("libernet.fs.web")
    log.addHandler(complaints)
    try:
        [raw] = converse(b"".join(sent), leaves=leaves)
    finally:
        log.removeHandler(complaints)
    assert complaints.found == []
    for status in (b"500", b"501", b"502", b"503"):
        assert b"HTTP/1.1 " + status not in raw
