"""Both ends of a block exchange, with one of them scripted."""

from collections.abc import Awaitable, Callable, Iterable

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from libernet.blocks.ids import BlockId, StoredId
from libernet.net.address import PeerAddress
from libernet.net.exchange.streams import Dial

PEER = PeerAddress("peer.example", 4848)

HELLO = b"hello, block"
HELLO_ID = BlockId.of(HELLO)

MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
Script = Callable[[MemoryStream], Awaitable[object]]


class DictOffer:
    """An offer of the given blocks."""

    def __init__(self, blocks: Iterable[bytes] = (HELLO,)) -> None:
        self.blocks: dict[StoredId, bytes] = {BlockId.of(block): block for block in blocks}

    async def size(self, block_id: StoredId) -> int | None:
        return len(self.blocks[block_id]) if block_id in self.blocks else None

    async def read(self, block_id: StoredId) -> bytes | None:
        return self.blocks.get(block_id)

    async def like(self, target: BlockId) -> list[tuple[BlockId, int]]:
        return [
            (block_id, len(block))
            for block_id, block in self.blocks.items()
            if isinstance(block_id, BlockId) and block_id[0] == target[0]
        ]

    async def tells(self, block_id: BlockId) -> bool:
        return block_id in self.blocks


class DictIntake:
    """Where blocks go that are put: into *kept*, with whether they are guests, while *has_room*,
    after what it *waits_for*."""

    def __init__(self) -> None:
        self.kept: dict[BlockId, tuple[bytes, bool]] = {}
        self.has_room = True
        self.waits_for: trio.Event | None = None

    async def keep(self, block_id: BlockId, block: bytes, *, guest: bool) -> bool:
        if self.waits_for is not None:
            await self.waits_for.wait()
        if self.has_room:
            self.kept[block_id] = (block, guest)
        return self.has_room


class MemoryPeerStream:
    """The client's end of a connection in memory.

    `is_noisy` says what no memory stream can be asked: that something waits to be received.
    """

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.is_noisy = False
        self.is_closed = False

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive_into(self, buffer: memoryview) -> int:
        data = await self._stream.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def is_quiet(self) -> bool:
        return not self.is_noisy

    def close(self) -> None:
        self.is_closed = True
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class ScriptedPeer:
    """A peer that plays one script per connection, the last one again and again.

    State: `streams`, the client's ends of all connections ever made.
    """

    def __init__(self, nursery: trio.Nursery, *scripts: Script) -> None:
        self._nursery = nursery
        self._scripts = list(scripts)
        self.streams: list[MemoryPeerStream] = []

    async def dial(self, peer: PeerAddress) -> MemoryPeerStream:
        await trio.lowlevel.checkpoint()
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        near, far = memory_stream_pair()
        self._nursery.start_soon(self._play, script, far)
        self.streams.append(MemoryPeerStream(near))
        return self.streams[-1]

    async def _play(self, script: Script, stream: MemoryStream) -> None:
        try:
            await script(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has hung up
        finally:
            await trio.aclose_forcefully(stream)


async def hear(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive one request, head and body; empty when there is none any more."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        received = await stream.receive_some()
        if not received:
            return bytes(data)
        data += received
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Script:
    """Answer one request after the other with these bytes, then hang up."""

    async def script(stream: MemoryStream) -> None:
        for answer in answers:
            if not await hear(stream):
                return
            await stream.send_all(answer)

    return script


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer of known length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def served_by(nursery: trio.Nursery, serve: Script) -> Dial:
    """Return a dial whose connections, in memory, *serve* takes care of."""
    return ScriptedPeer(nursery, serve).dial
