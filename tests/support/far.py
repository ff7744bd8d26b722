"""Other nodes, scripted: real clients and servers over streams in memory, and a discovery."""

import math
from collections import Counter
from typing import Any

import trio
from trio.testing import memory_stream_pair

from libernet.blocks.errors import NetworkError, PeerUnreachable
from libernet.blocks.ids import BlockId, StoredId
from libernet.net.address import PeerAddress
from libernet.net.discovery import HTTP_EXCHANGE, WANTED_PROVIDERS, Provider
from libernet.net.exchange.client import ExchangeClient
from libernet.net.exchange.server import ExchangeServer
from libernet.net.peers import Peers
from tests.support.exchange import MemoryPeerStream

_DROP_BYTES = 4096
_PIECES = 8  # of a block, between which others get their turn


class FarNode:
    """A peer with blocks, an offer to its own server.

    State: `is_down`, it refuses connections; `is_lying`, it sends other bytes; `delay_seconds`
    before each answer; `bytes_per_second` that it sends to all who ask at one time;
    `drip_bytes_per_second` that it sends on each connection, as they come; `asked`, the
    ids that it was asked for one by one or in batches; `serving`, the scopes of its connections.
    """

    def __init__(self, address: PeerAddress) -> None:
        self.address = address
        self.blocks: dict[StoredId, bytes] = {}
        self.is_down = False
        self.is_lying = False
        self.delay_seconds = 0.0
        self.bytes_per_second = math.inf
        self.drip_bytes_per_second = math.inf
        self.asked: list[StoredId] = []
        self.dials = 0
        self.serving: list[trio.CancelScope] = []
        self._line = trio.Lock()

    def be_silent(self) -> None:
        self.delay_seconds = math.inf

    def be_down(self) -> None:
        """Refuse connections and break those that are there."""
        self.is_down = True
        for scope in self.serving:
            scope.cancel()

    def add(self, *blocks: bytes) -> list[BlockId]:
        ids = [BlockId.of(block) for block in blocks]
        self.blocks.update(zip(ids, blocks, strict=True))
        return ids

    async def size(self, block_id: StoredId) -> int | None:
        if block_id in self.blocks:
            return len(self.blocks[block_id])
        await trio.sleep(self.delay_seconds)
        return None

    async def read(self, block_id: StoredId) -> bytes | None:
        self.asked.append(block_id)
        await trio.sleep(self.delay_seconds)
        if self.is_lying:
            return b"something else"
        block = self.blocks.get(block_id)
        for _ in range(_PIECES if block else 0):  # all who ask share the line
            async with self._line:
                await trio.sleep(len(block or b"") / _PIECES / self.bytes_per_second)
        return block


class _Dripping(trio.abc.HalfCloseableStream):
    """A stream on which a node sends no faster than it drips."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, node: FarNode) -> None:
        self._stream = stream
        self._node = node

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if math.isinf(self._node.drip_bytes_per_second):
            await self._stream.send_all(data)
            return
        for at in range(0, len(data), _DROP_BYTES):
            drop = data[at : at + _DROP_BYTES]
            await trio.sleep(len(drop) / self._node.drip_bytes_per_second)
            await self._stream.send_all(drop)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class FarNodes:
    """All peers of a test, by address."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._nodes: dict[PeerAddress, FarNode] = {}

    def node(self, name: str) -> FarNode:
        """Return a new node."""
        address = PeerAddress(name, 4848)
        self._nodes[address] = FarNode(address)
        return self._nodes[address]

    def peers(self) -> Peers:
        return Peers(lambda address: ExchangeClient(address, dial=self.dial))

    async def dial(self, address: PeerAddress) -> MemoryPeerStream:
        node = self._nodes[address]
        node.dials += 1
        await trio.lowlevel.checkpoint()
        if node.is_down:
            raise PeerUnreachable(f"peer {address} cannot be reached: it is down")
        near, far = memory_stream_pair()
        self._nursery.start_soon(self._serve, node, far)
        return MemoryPeerStream(near)

    async def _serve(self, node: FarNode, stream: trio.abc.HalfCloseableStream) -> None:
        with trio.CancelScope() as scope:
            node.serving.append(scope)
            await ExchangeServer(node).serve(_Dripping(stream, node), "192.0.2.1")


class ScriptedDiscovery:
    """A discovery that says what it is told.

    State: `hints`; `providers` by id; `error`, raised by every call if there is one;
    `delay_seconds` before each answer; `found`, `announced` and `withdrawn`: the calls by id;
    `most`, how many calls there were at one time.
    """

    def __init__(self) -> None:
        self.hints: list[PeerAddress] = []
        self.providers: dict[BlockId, list[PeerAddress]] = {}
        self.error: Exception | None = None
        self.delay_seconds = 0.0
        self.flags = HTTP_EXCHANGE
        self.found: Counter[BlockId] = Counter()
        self.announced: list[tuple[float, BlockId]] = []
        self.withdrawn: list[BlockId] = []
        self.most = 0
        self._calls = 0

    async def announce(self, block_id: BlockId) -> None:
        self.announced.append((trio.current_time(), block_id))
        await self._answer()

    async def withdraw(self, block_id: BlockId) -> None:
        self.withdrawn.append(block_id)
        await self._answer()

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        self.found[block_id] += 1
        await self._answer()
        return [Provider(each, self.flags) for each in self.providers.get(block_id, ())]

    def peers_hint(self) -> list[PeerAddress]:
        return list(self.hints)

    def status(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    async def _answer(self) -> None:
        self._calls += 1
        self.most = max(self.most, self._calls)
        try:
            await trio.sleep(self.delay_seconds)
        finally:
            self._calls -= 1
        if self.error is not None:
            raise self.error


NETWORK_IS_DOWN = NetworkError("the network is switched off")
