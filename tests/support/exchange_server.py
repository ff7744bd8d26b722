"""A server of blocks and clients of it in memory, byte for byte."""

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from libernet.net.exchange.connection import ServerLimits
from libernet.net.exchange.offer import Offer
from libernet.net.exchange.reception import Reception
from libernet.net.exchange.server import ExchangeServer
from tests.support.exchange import HELLO_ID, MemoryStream

HOST = "192.0.2.1"
LIMITS = ServerLimits(
    connections=4,
    connections_per_host=2,
    head_seconds=10,
    request_seconds=60,
    idle_seconds=30,
    linger_seconds=2,
)

GET_HELLO = f"GET /sha256/{HELLO_ID} HTTP/1.1\r\nhost: x\r\n\r\n".encode()

Unbuffered = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]


class Server:
    """A server and clients of it in memory."""

    def __init__(
        self,
        nursery: trio.Nursery,
        offer: Offer,
        reception: Reception | None = None,
        limits: ServerLimits = LIMITS,
    ) -> None:
        self.server = ExchangeServer(offer, reception, limits=limits)
        self._nursery = nursery

    def connect(self, host: str = HOST) -> MemoryStream:
        """Return a client's end of a connection."""
        near, far = memory_stream_pair()
        self._nursery.start_soon(self.server.serve, far, host)
        return near

    def connect_unbuffered(self) -> Unbuffered:
        """Return the end of a client whose bytes, both ways, are sent only as they are taken."""
        near, far = lockstep_stream_pair()
        self._nursery.start_soon(self.server.serve, far, HOST)
        return near

    async def ask(self, *pieces: bytes, host: str = HOST) -> bytes:
        """Send *pieces* on a connection of their own, return all that comes until it ends."""
        stream = self.connect(host)
        for piece in pieces:
            await stream.send_all(piece)
        answer = await received(stream)
        await trio.aclose_forcefully(stream)
        await wait_all_tasks_blocked()
        return answer


async def received(stream: MemoryStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def header_of(answer: bytes, name: str) -> str | None:
    for line in answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
