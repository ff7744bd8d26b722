"""Nodes of the DHT that answer as a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from libernet.net.dht.contact import Address
from libernet.net.dht.keys import node_id_of
from libernet.net.dht.proof import prove
from libernet.net.dht.wire import Envelope, Hello, Ping, Pong, decode, encode
from tests.support.dht import address_of, bound_socket, new_keys


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 # the network makes it so
            await asyncio.sleep(0.005)


class Enemy(asyncio.DatagramProtocol):
    """A node that answers each request with what *reply* makes of it, and keeps all it gets."""

    def __init__(self, reply: Callable[[Envelope], bytes | None] = lambda _: None) -> None:
        self.keys = new_keys()
        self.id = node_id_of(self.keys.public_key)
        self.received: list[bytes] = []
        self._reply = reply

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        self.received.append(data)
        answer = self._reply(decode(data))
        if answer is not None:
            self.transport.sendto(answer, addr)

    def bodies(self, kind: type) -> list:
        """Return what it received of one kind."""
        bodies = [decode(each).body for each in self.received]
        return [each for each in bodies if isinstance(each, kind)]

    def envelope(self, body: object, rpc_id: bytes = b"12345678", flags: int = 1) -> bytes:
        return encode(Envelope(rpc_id, self.id, flags, 666, body))


@contextlib.asynccontextmanager
async def enemy(
    reply: Callable[[Enemy, Envelope], bytes | None] = lambda *_: None,
) -> AsyncIterator[tuple[Enemy, Address]]:
    loop = asyncio.get_running_loop()
    made = Enemy(lambda envelope: reply(made, envelope))
    sock = bound_socket()
    address = address_of(sock)
    transport, _ = await loop.create_datagram_endpoint(lambda: made, sock=sock)
    try:
        yield made, address
    finally:
        transport.close()
        await asyncio.sleep(0)


def polite(self: Enemy, request: Envelope) -> bytes | None:
    """Say who it is and that it is there, and nothing else."""
    match request.body:
        case Hello(to=to):
            return self.envelope(prove(self.keys, request, to, to), request.rpc_id)
        case Ping():
            return self.envelope(Pong(), request.rpc_id)
    return None
