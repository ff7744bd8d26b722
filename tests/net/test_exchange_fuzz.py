"""Arbitrary bytes at both ends: nothing but our own errors, in bounded time."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from libernet.blocks.errors import LibernetError
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.server import ExchangeServer
from libernet.net.exchange.wire import BATCH_ANSWER_TYPE, batch_record
from tests.support.exchange import (
    HELLO,
    HELLO_ID,
    PEER,
    DictOffer,
    MemoryStream,
    ScriptedPeer,
    hear,
    http,
)

LONGEST_SECONDS = 40
"""More than connecting and answering may take."""

_answer_words = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 No\r\n",
        b"HTTP/1.1 100 Go\r\n\r\n",
        b"HTTP/1.1 101 Go\r\n\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"content-length: 12\r\n",
        b"content-length: 99999999999999999999999\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"content-type: " + BATCH_ANSWER_TYPE.encode() + b"\r\n",
        b"\r\n",
        b"c\r\n",
        b"0\r\n",
        HELLO,
        batch_record(HELLO),
        http(200, HELLO),
        http(200, HELLO)[:-1],
    ]
)
_request_words = st.sampled_from(
    [
        b"GET ",
        b"POST /sha256/ HTTP/1.1\r\n",
        b"PUT / HTTP/1.0\r\n",
        b"/sha256/%s" % str(HELLO_ID).encode(),
        b" HTTP/1.1\r\n",
        b"host: x\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
        b"content-length: 32\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"content-type: application/vnd.libernet.block-ids.v1\r\n",
        b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(32),
        HELLO_ID,
        b"GET /sha256/%s HTTP/1.1\r\nhost: x\r\n\r\n" % str(HELLO_ID).encode(),
    ]
)


def pieces(words: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Return what a connection may bring: words and noise, in any order."""
    return st.lists(words | st.binary(max_size=30), max_size=12)


async def ask(client: ExchangeClient, question: str) -> None:
    """Ask; whatever comes back is right, or one error of our own."""
    try:
        match question:
            case "get":
                assert await client.get(HELLO_ID) == HELLO
            case "has":
                assert await client.has(HELLO_ID) in (True, False)
            case "get_many":
                assert await client.get_many([HELLO_ID]) in ({}, {HELLO_ID: HELLO})
    except LibernetError:
        pass


@settings(deadline=None, max_examples=150)
@given(sent=pieces(_answer_words), hangs=st.booleans())
@pytest.mark.parametrize("question", ["get", "has", "get_many"])
def test_any_answer_is_the_block_or_an_error(question: str, sent: list[bytes], hangs: bool) -> None:
    async def script(stream: MemoryStream) -> None:
        await hear(stream)
        for piece in sent:
            await stream.send_all(piece)
        if hangs:
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            client = ExchangeClient(PEER, dial=ScriptedPeer(nursery, script).dial)
            with trio.fail_after(3 * LONGEST_SECONDS):
                await ask(client, question)
                await ask(client, question)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(deadline=None, max_examples=250)
@given(sent=pieces(_request_words), leaves=st.booleans())
def test_any_request_ends_in_time_and_quietly(sent: list[bytes], leaves: bool) -> None:
    """Whatever hypercorn made of it, the log has no warning: see tests/conftest.py."""

    async def main() -> None:
        near, far = memory_stream_pair()
        server = ExchangeServer(DictOffer())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, far, "192.0.2.1")
            try:
                for piece in sent:
                    await near.send_all(piece)
                if leaves:
                    await near.send_eof()
            except trio.BrokenResourceError:
                pass  # it has hung up already
            with trio.fail_after(1000):
                async for _ in near:
                    pass
        assert server.connections == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
