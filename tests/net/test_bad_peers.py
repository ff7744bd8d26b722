"""Peers that mean ill: whatever they send, the reader gets right bytes or an error in time."""

import logging
import resource
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import LibernetError, PeerUnreachable
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.connection import MAX_CONNECTIONS, ServerLimits
from libernet.net.exchange.offer import StoreOffer
from libernet.net.exchange.server import ExchangeServer
from libernet.net.fetcher import FETCH_SECONDS, Fetcher
from libernet.net.peers import Peers
from libernet.net.sparing_log import LINE_SECONDS, SparingLog
from tests.support.dht import until
from tests.support.exchange import MemoryPeerStream, MemoryStream, Script, ScriptedPeer, hear, http
from tests.support.far import FarNodes, ScriptedDiscovery

BLOCK = b"the block that is wanted" * 1000
ID = BlockId.of(BLOCK)
ROOT = BlockId.of(b"a root")
BAD = PeerAddress("bad.example", 4848)
LENGTH = f"HTTP/1.1 200 OK\r\ncontent-length: {len(BLOCK)}\r\n\r\n".encode()
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
READS = 3
MOST_BYTES = 16 * 1024 * 1024
"""More memory than one question may take, its answer, and what that inflates to."""


def saying(start: bytes, again: bytes = b"", pause: float = 0.0) -> Script:
    """Answer requests with *start*, then *again* and again after pauses, and stay connected."""

    async def script(stream: MemoryStream) -> None:
        while await hear(stream):
            await stream.send_all(start)
            while again:
                await trio.sleep(pause)
                await stream.send_all(again)

    return script


BAD_PEERS = {
    "wrong bytes": saying(http(200, BLOCK[:-1] + b"!")),
    "too short": saying(http(200, BLOCK[:-1])),
    "too long": saying(http(200, BLOCK + b".")),
    "more than a block": saying(http(200, bytes(MAX_BLOCK_BYTES + 1))),
    "an endless body": saying(b"HTTP/1.0 200 OK\r\n\r\n", bytes(65_536)),
    "endless chunks": saying(CHUNKED, b"10000\r\n" + bytes(65_536) + b"\r\n"),
    "a body in drops": saying(LENGTH, b"t", 4),
    "a head in drops": saying(b"HTTP/1.1 200 OK\r\nx: ", b"y", 4),
    "silence": saying(b""),
    "half of an answer": saying(LENGTH + BLOCK[:100]),
    "garbage": saying(bytes(range(256)) * 100),
    "endless garbage": saying(b"", b"\xff" * 1000),
    "a redirect": saying(http(302, b"", "location: http://127.0.0.1:4848/")),
    "a gzip bomb": saying(
        http(200, zlib.compress(bytes(2 * 10**7), wbits=31), "content-encoding: gzip")
    ),
    "a block that is a bomb": saying(http(200, zlib.compress(bytes(2 * 10**7), 9))),
    "one long header": saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10**6),
    "a million headers": saying(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000),
    "endless promises": saying(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "an error": saying(http(500, b"oh")),
    "an upgrade": saying(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"),
    "another protocol": saying(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
}


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    autojump_clock.autojump_threshold = 0.002  # the store's threads take no time on this clock
    return autojump_clock


class Reader:
    """A node with one bad peer; others may be added to `far` and to `discovery`."""

    def __init__(self, store: Store, nursery: trio.Nursery, script: Script) -> None:
        self._bad = ScriptedPeer(nursery, script)
        self.far = FarNodes(nursery)
        self.discovery = ScriptedDiscovery()
        self.discovery.hints.append(BAD)
        said = SparingLog(logging.getLogger("libernet.net.peers"))
        peers = Peers(lambda address: ExchangeClient(address, dial=self._dial), said)
        self.fetcher = Fetcher(store, self.discovery, peers)

    async def read(self) -> bytes:
        return await self.fetcher.get(ID, bytes, Origin(ROOT))

    async def _dial(self, address: PeerAddress) -> MemoryPeerStream:
        return await (self._bad if address == BAD else self.far).dial(address)


@pytest.fixture(params=BAD_PEERS)
async def reader(
    request: pytest.FixtureRequest, store: Store, nursery: trio.Nursery
) -> AsyncIterator[Reader]:
    made = Reader(store, nursery, BAD_PEERS[request.param])
    await nursery.start(made.fetcher.run)
    tracemalloc.start()
    try:
        yield made
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


async def test_right_bytes_come_from_another_peer(reader: Reader, clock: MockClock) -> None:
    good = reader.far.node("good")
    good.add(BLOCK)
    reader.discovery.hints.append(good.address)
    began = trio.current_time()
    assert await reader.read() == BLOCK
    assert trio.current_time() - began <= 1


async def test_or_there_is_an_error_in_time_and_a_line_that_names_the_peer(
    reader: Reader, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    began = trio.current_time()
    for _ in range(READS):
        with pytest.raises(LibernetError):
            await reader.read()
    seconds = trio.current_time() - began
    assert seconds <= READS * FETCH_SECONDS
    lines = [line for line in caplog.messages if str(BAD) in line]
    assert 1 <= len(lines) <= READS + 2 * (1 + seconds // LINE_SECONDS)
    assert all(len(line) < 500 and line.isprintable() for line in lines)


HOST = "127.0.0.1"
CONNECTIONS = 1000


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + 500
    if before[0] < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(before[1], wanted)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_thousand_slow_clients_leave_the_memory_free_and_the_log_readable(
    store: Store, nursery: trio.Nursery, many_descriptors: None, caplog: pytest.LogCaptureFixture
) -> None:
    """They come from as many addresses, so that no one of them has too many connections."""
    caplog.set_level(logging.INFO)
    store.put(ID, BLOCK)
    server = ExchangeServer(StoreOffer(store), limits=ServerLimits(head_seconds=300))
    port = await nursery.start(server.run, HOST, 0)
    before = _resident_bytes()
    outcomes: list[bytes] = []
    late = ExchangeClient(PeerAddress(HOST, port))
    async with trio.open_nursery() as clients:
        for number in range(CONNECTIONS):
            clients.start_soon(_half_a_head, number, port, outcomes)
        await until(lambda: len(outcomes) == CONNECTIONS - MAX_CONNECTIONS, seconds=120)
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in outcomes)
        assert server.connections == MAX_CONNECTIONS
        with pytest.raises(PeerUnreachable, match="busy"):
            await late.get(ID)
        assert _resident_bytes() - before < 64 * 1024 * 1024
        clients.cancel_scope.cancel()
    await until(lambda: not server.connections, seconds=60)
    assert await late.get(ID) == BLOCK
    late.close()
    assert len([line for line in caplog.messages if "turned away" in line]) == 1


async def _half_a_head(number: int, port: int, outcomes: list[bytes]) -> None:
    """Connect from an address of one's own, begin a request, and note the answer to that."""
    ours = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await ours.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
    await ours.connect((HOST, port))
    async with trio.SocketStream(ours) as stream:
        await stream.send_all(b"GET /sha256/")
        outcomes.append(bytes(await stream.receive_some()))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
