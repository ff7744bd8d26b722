"""A hundred thousand datagrams that are almost right."""

import asyncio
import contextlib
import gc
import itertools
import logging
import random
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from libernet.blocks.errors import DhtError
from libernet.net.dht.acquaintances import PARALLEL_CHECKS
from libernet.net.dht.contact import Address, Contact
from libernet.net.dht.endpoint import Endpoint
from libernet.net.dht.node import DhtNode
from libernet.net.dht.reachability import MAX_WRITTEN
from libernet.net.dht.wire import PREFIX
from tests.support.dht import ManualClock, bound_socket, network, serving

DATAGRAMS = 100_000
SECONDS = 0.01
"""What passes on the node's clock from one to the next: a thousand seconds in all."""

KEY = b"k" * 20
RPC_ID, SENDER = slice(6, 14), slice(16, 36)
"""Where these stand: after the prefix and the heads of the envelope and of themselves."""

CONTACTS = [
    Contact(bytes((number,)) * 20, Address(f"7.7.{number}.7", 4848)) for number in range(20)
]


class Wire:
    """Stands for a transport; what is sent is gone."""

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Nothing is open."""

    def get_extra_info(self, name: str) -> socket.socket:
        return closed_socket()

    def sendto(self, data: bytes, addr: Address) -> None:
        """Nobody is there."""


async def real_datagrams() -> list[bytes]:
    """Return what three nodes send each other while they do all that they can."""
    heard: list[bytes] = []

    def listen(endpoint: Endpoint) -> None:
        receive = endpoint.datagram_received

        def received(data: bytes, addr: tuple[Any, ...]) -> None:
            heard.append(data)
            receive(data, addr)

        endpoint.datagram_received = received  # type: ignore[method-assign]

    async with network(3) as nodes:
        for node in nodes:
            listen(node.endpoint)
        await nodes[0].announce(KEY, 1000, 1)
        await nodes[1].announce_signed(KEY, 1001, 1)
        await nodes[2].find(KEY, 8)
        await nodes[2].greet([each.address for each in nodes[2].contacts])
        await nodes[2].test_reachability()
        await nodes[0].withdraw(KEY, 1000)
        await nodes[1].withdraw_signed(KEY, 1001)
    return heard


def mutations(real: list[bytes], source: random.Random) -> Iterator[bytes]:
    """Yield datagrams that were real, and then changed, cut, joined, or grown."""

    def change(datagram: bytearray) -> None:
        for _ in range(source.randint(1, 4)):
            datagram[source.randrange(len(datagram))] = source.randrange(256)

    def change_a_head(datagram: bytearray) -> None:
        """Change what msgpack takes for a type or a length."""
        at = source.choice([3, 4, 5, *range(14, 17), *range(36, min(48, len(datagram)))])
        datagram[at] = source.choice(b"\xc0\xc1\xc4\xc5\xc6\xd9\xda\xdb\xdc\xdd\xdf\x90\x9f\xcf")

    def cut(datagram: bytearray) -> None:
        del datagram[source.randrange(len(datagram)) :]

    def join(datagram: bytearray) -> None:
        datagram[source.randrange(len(datagram)) :] = source.choice(real)[len(PREFIX) :]

    def grow(datagram: bytearray) -> None:
        at = source.randrange(len(datagram))
        datagram[at:at] = source.randbytes(source.randrange(1200))

    def deepen(datagram: bytearray) -> None:
        datagram[len(PREFIX) :] = source.choice(b"\x91\x95\x81\xdc").to_bytes() * 1190

    def keep(datagram: bytearray) -> None:
        """Let it be: it comes from somebody else at another time."""

    kinds: list[Callable[[bytearray], None]] = [
        change, change, change, change_a_head, change_a_head, cut, join, grow, deepen, keep,
    ]  # fmt: skip
    while True:
        datagram = bytearray(source.choice(real))
        source.choice(kinds)(datagram)
        yield bytes(datagram)


def closed_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.close()
    return sock


async def flood(address: Address, datagrams: Iterable[bytes]) -> None:
    with bound_socket() as sock:
        for datagram in datagrams:
            sock.sendto(datagram, address)
            await asyncio.sleep(0)  # the receiver takes one on each turn of the loop


class Fuzzed:
    """A node on a wire of which a test holds the other end.

    Tasks: asking(), which looks up one key after the other.
    """

    def __init__(self, node: DhtNode, clock: ManualClock, real: list[bytes]) -> None:
        self.node = node
        self.wire = Wire()
        self._clock = clock
        self._source = random.Random(7)
        self.mutations = mutations(real, self._source)
        node.endpoint = Endpoint(node.identity, node._answer, node.complaints, node.reachability)
        node.endpoint.connection_made(self.wire)

    async def asking(self) -> None:
        while True:
            for contact in CONTACTS:
                self.node.table.add(contact)
            with contextlib.suppress(DhtError):
                await self.node.find(self._source.randbytes(20), 8)

    async def feed(self, count: int) -> None:
        """Hand in so many datagrams; every other one is an answer to what the node asks."""
        contacts = {each.address: each.id for each in CONTACTS}
        waiting = self.node.endpoint._waiting
        for number in range(count):
            self._clock.now += SECONDS
            datagram = next(self.mutations)
            sender = Address(f"8.8.{self._source.randrange(256)}.8", self._source.randrange(1, 9))
            if number % 2 and waiting:
                rpc_id = self._source.choice(list(waiting))
                sender, _ = waiting[rpc_id]
                answer = bytearray(datagram)
                answer[RPC_ID] = rpc_id
                answer[SENDER] = contacts.get(sender, KEY)
                datagram = bytes(answer)
            self.node.endpoint.datagram_received(datagram, sender)
            if number % 10 == 0:
                await asyncio.sleep(0)


@pytest.fixture
def unheard() -> list[dict[str, Any]]:
    """What a loop complains of."""
    return []


def test_a_hundred_thousand_datagrams_hurt_nobody(
    unheard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unheard.append(what))
        real = await real_datagrams()
        async with serving(private_network=False, clock=clock) as (node, address):
            endpoint = node.endpoint
            fuzzed = Fuzzed(node, clock, real)
            asking = asyncio.create_task(fuzzed.asking())
            await fuzzed.feed(DATAGRAMS // 2)
            gc.collect()
            blocks = sys.getallocatedblocks()
            await fuzzed.feed(DATAGRAMS // 2)
            gc.collect()
            assert sys.getallocatedblocks() - blocks < 20_000
            assert not asking.done()
            asking.cancel()
            assert node.endpoint.counts["sent"] > DATAGRAMS / 50
            assert node.complaints.counts["unforeseen"] == 0
            assert node.complaints.counts.total() > DATAGRAMS / 4
            assert node.endpoint.counts["served"] > DATAGRAMS / 50
            assert len(node.complaints.counts) < 40
            assert len(node.acquaintances._checks) <= PARALLEL_CHECKS
            assert len(node.reachability._written) <= MAX_WRITTEN
            # The same on its socket, where it then answers as if nothing had been.
            node.endpoint = endpoint
            await flood(address, itertools.islice(fuzzed.mutations, 5000))
            clock.now += 10  # after so many, who asks from here waits a moment
            async with serving(1001) as (honest, _):
                assert (await honest.greet([address]))[0] == {address}
            assert not endpoint.closed.done()

    asyncio.run(scenario())
    gc.collect()
    assert unheard == []
    assert len(caplog.records) <= DATAGRAMS * SECONDS / 60 + 3
