"""The socket of the DHT: requests out, matched with their replies; requests in, handed on.

It stands on asyncio alone. rpcudp's protocol, which kademlia's is built on, closes its socket for
good when a reply names port 70000, takes messages of any kind and size, logs each bad one with a
traceback, and forgets nothing that was cancelled.
"""

import asyncio
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from libernet.blocks.errors import DhtError, FormatError
from libernet.net.dht.complaints import Complaints
from libernet.net.dht.contact import Address
from libernet.net.dht.keys import node_id_of
from libernet.net.dht.reachability import Reachability
from libernet.net.dht.roundtrips import RoundTrips
from libernet.net.dht.wire import (
    CLIENT_ONLY,
    REQUESTS,
    RPC_ID_BYTES,
    Envelope,
    Ping,
    Reply,
    Request,
    decode,
    encode,
)
from libernet.net.identity import NodeIdentity

REQUEST_SECONDS = 1.0
"""When a request counts as unanswered. Look-ups do not wait so long: see RoundTrips."""


@dataclass(slots=True)
class Identity:
    """Who a node is, and what it says of itself in each datagram.

    *exchange_port* 0: it serves no blocks. *flags* may change.
    """

    keys: NodeIdentity
    exchange_port: int
    flags: int
    node_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.node_id = node_id_of(self.keys.public_key)


class Endpoint(asyncio.DatagramProtocol):
    """One UDP socket, and the requests that wait for a reply on it.

    State: _waiting, by request id the address asked and the future of its reply; an entry leaves
    with the call of request() that made it, however that ends. counts, of requests by outcome.
    *closed* is done once the socket is gone.
    *answer* gets each request, its sender and its length; it must neither wait nor raise.
    """

    def __init__(
        self,
        identity: Identity,
        answer: Callable[[Envelope, Address, int], Reply | None],
        complaints: Complaints,
        reachability: Reachability,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.round_trips = RoundTrips()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._identity = identity
        self._answer = answer
        self._complaints = complaints
        self._reachability = reachability
        self._waiting: dict[bytes, tuple[Address, asyncio.Future[Envelope]]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def outstanding(self) -> int:
        """How many requests wait for a reply."""
        return len(self._waiting)

    async def request(self, address: Address, body: Request) -> Envelope | None:
        """Return the reply of the node at *address*, None when it sends none in time.

        The address must have passed an AddressPolicy.
        """
        loop = asyncio.get_running_loop()
        rpc_id = secrets.token_bytes(RPC_ID_BYTES)
        reply: asyncio.Future[Envelope] = loop.create_future()
        self._waiting[rpc_id] = (address, reply)
        start = loop.time()
        try:
            self._send(rpc_id, body, address)
            self.counts["sent"] += 1
            async with asyncio.timeout(REQUEST_SECONDS):
                envelope = await reply
        except TimeoutError:
            self.counts["unanswered"] += 1
            return None
        finally:
            del self._waiting[rpc_id]
        self.round_trips.add(loop.time() - start)
        return envelope

    def call_from_another_port(self, address: Address) -> bool:
        """Send a ping to *address* from a port that nobody knows; False if that cannot be done."""
        if self._transport is None:
            return False
        here = self._transport.get_extra_info("socket")
        try:
            with socket.socket(here.family, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.bind((here.getsockname()[0], 0))
                sock.sendto(self._datagram(secrets.token_bytes(RPC_ID_BYTES), Ping()), address)
        except OSError:
            self.counts["refused by the kernel"] += 1
            return False
        return True

    def close(self) -> None:
        """Close the socket; *closed* tells when that is done."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to send with, as asyncio asks."""
        # Not an instance of it before Python 3.12, but one in all it does.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it that the socket is gone, as asyncio asks."""
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    def error_received(self, exc: Exception) -> None:
        """Count what the kernel says of a datagram, such as that no way leads to its address."""
        self.counts["refused by the kernel"] += 1

    # Any: a pair for IPv4, four values for IPv6.
    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Handle one datagram to its end, without waiting; whatever it is, nothing is raised."""
        sender = Address(addr[0], addr[1])
        try:
            self._handle(data, sender)
        except FormatError as exc:
            self._complaints.note(str(exc), sender)
        except Exception as exc:  # noqa: BLE001 # the edge: asyncio would log each, unbounded
            self._complaints.note_bug(exc, sender)

    def _handle(self, datagram: bytes, sender: Address) -> None:
        envelope = decode(datagram)
        if envelope.sender == self._identity.node_id:
            raise FormatError("sent under this node's own id")
        body = envelope.body
        if isinstance(body, REQUESTS):
            self._reachability.hear(sender)
            reply = self._answer(envelope, sender, len(datagram))
            if reply is not None:
                self.counts["served"] += 1
                self._send(envelope.rpc_id, reply, sender)
            return
        asked, waiting = self._waiting.get(envelope.rpc_id, (None, None))
        if waiting is None or asked != sender:
            # Mostly one that came too late: a look-up had ended, or its time was over.
            self.counts["late"] += 1
        elif not waiting.done():
            waiting.set_result(envelope)

    def _send(self, rpc_id: bytes, body: Request | Reply, address: Address) -> None:
        if self._transport is None or self._transport.is_closing():
            raise DhtError("the socket of the DHT is closed")
        self._reachability.wrote(address)
        self._transport.sendto(self._datagram(rpc_id, body), address)

    def _datagram(self, rpc_id: bytes, body: Request | Reply) -> bytes:
        own = self._identity
        is_client = self._reachability.is_reachable is False
        flags = own.flags | CLIENT_ONLY if is_client else own.flags
        return encode(Envelope(rpc_id, own.node_id, flags, own.exchange_port, body))
