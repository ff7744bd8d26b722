"""A node that others cannot reach finds that out, says so, and burdens nobody."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from libernet.blocks.errors import DhtError
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.node import DhtNode
from libernet.net.dht.reachability import MAX_WRITTEN, REMEMBERED_SECONDS, Reachability
from libernet.net.dht.wire import CLIENT_ONLY, CallBack, Envelope, Find, Found, Stored, encode
from tests.support.dht import ManualClock, network, serving
from tests.support.dht_enemies import Enemy, enemy, eventually, polite

KEY = b"k" * 20
KNOWN, STRANGER = Address("8.8.8.8", 4848), Address("8.8.8.8", 4849)
NEIGHBOUR = Address("192.168.1.5", 4848)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reachability(clock: ManualClock) -> Reachability:
    return Reachability(AddressPolicy(socket.AF_INET, private_network=False), clock)


def test_a_request_of_a_stranger_shows_that_strangers_come_through(
    reachability: Reachability, clock: ManualClock
) -> None:
    reachability.wrote(KNOWN)
    reachability.hear(KNOWN)
    assert reachability.is_reachable is None
    reachability.hear(STRANGER)
    assert reachability.is_reachable is True


def test_who_was_written_to_long_ago_is_a_stranger_again(
    reachability: Reachability, clock: ManualClock
) -> None:
    reachability.wrote(KNOWN)
    clock.now += REMEMBERED_SECONDS
    reachability.hear(KNOWN)
    assert reachability.is_reachable is True


def test_a_neighbour_shows_nothing(reachability: Reachability) -> None:
    reachability.hear(NEIGHBOUR)
    assert reachability.is_reachable is None


def test_who_writes_to_very_many_takes_nobody_for_a_stranger(reachability: Reachability) -> None:
    for number in range(2 * MAX_WRITTEN):
        reachability.wrote(Address(f"8.{number >> 8}.{number & 255}.1", 4848))
    reachability.hear(STRANGER)
    assert reachability.is_reachable is None


# On sockets


class Router:
    """Stands between a node and its socket: lets answers in, and nothing that comes unasked."""

    def __init__(self, node: DhtNode) -> None:
        assert node.endpoint is not None
        self.is_open = False
        self.turned_away = 0
        self._written: set[Address] = set()
        self._transport = node.endpoint._transport
        self._let_in = node.endpoint.datagram_received
        node.endpoint._transport = self  # type: ignore[assignment]
        node.endpoint.datagram_received = self.datagram_received  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def sendto(self, datagram: bytes, address: Address) -> None:
        self._written.add(address)
        self._transport.sendto(datagram, address)

    def datagram_received(self, datagram: bytes, sender: tuple) -> None:
        if self.is_open or sender in self._written:
            self._let_in(datagram, sender)
        else:
            self.turned_away += 1


@contextlib.asynccontextmanager
async def behind_a_router(*others: DhtNode) -> AsyncIterator[tuple[DhtNode, Router]]:
    """Run a node that knows *others* and that nobody can reach unasked."""
    async with serving(1099) as (node, _):
        router = Router(node)
        for other in others:
            await node.greet([Address(*other.endpoint._transport.get_extra_info("sockname"))])
        yield node, router


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libernet.net.dht.node.CALL_SECONDS", 0.3)


def test_a_node_that_contacts_can_call_goes_on_as_it_is() -> None:
    async def scenario() -> None:
        async with network(2) as [_, node]:
            await node.test_reachability()
            assert node.status()["is_reachable"] is True
            await node.announce(KEY, 1001, 1)

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_wait")
def test_a_node_behind_a_router_finds_and_reads_but_is_in_no_table_and_announces_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with network(3) as others, behind_a_router(*others) as (node, router):
            assert node.identity.node_id in {each.id for each in others[0].contacts}
            await node.test_reachability()
            assert router.turned_away == 3
            assert node.status()["is_reachable"] is False
            await eventually(
                lambda: all(
                    node.identity.node_id not in {each.id for each in other.contacts}
                    for other in others
                )
            )
            await others[1].announce(KEY, 1001, 1)
            [provider] = await node.find(KEY, 8)
            assert provider.address.port == 1001
            for announce in (node.announce, node.announce_signed):
                with pytest.raises(DhtError, match="cannot be reached"):
                    await announce(b"own".ljust(20), 1099, 1)
            assert await others[1].find(b"own".ljust(20), 8) == []
            await node.test_reachability()

    asyncio.run(scenario())
    assert ["cannot be reached" in each.message for each in caplog.records] == [True]


@pytest.mark.usefixtures("short_wait")
def test_a_node_whose_router_lets_others_in_again_notices_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with network(3) as others, behind_a_router(*others) as (node, router):
            await node.test_reachability()
            assert node.status()["is_reachable"] is False
            router.is_open = True
            await node.test_reachability()
            assert node.status()["is_reachable"] is True
            await node.announce(KEY, 1099, 1)
            assert [each.address.port for each in await others[1].find(KEY, 8)] == [1099]

    asyncio.run(scenario())
    assert "can be reached over IPv4 again" in caplog.records[-1].message


def test_a_contact_cannot_be_forced_out_under_its_name() -> None:
    """The same is not believed of what may be forged."""

    async def scenario() -> None:
        async with network(2) as [node, other], enemy() as (forger, _):
            forged = Envelope(b"12345678", other.identity.node_id, CLIENT_ONLY, 1, Find(KEY, 0))
            [contact] = node.contacts
            node.endpoint.datagram_received(encode(forged), contact.address)
            forger.id = other.identity.node_id
            there = Address(*node.endpoint._transport.get_extra_info("sockname"))
            forger.transport.sendto(forger.envelope(Find(KEY, 0), flags=CLIENT_ONLY), there)
            await eventually(lambda: forger.received)
            await eventually(lambda: not node.acquaintances._checks)
            assert [each.address for each in node.contacts] == [contact.address]

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_wait")
def test_nobody_who_can_call_means_that_nothing_is_known() -> None:
    def refusing(self: Enemy, request: Envelope) -> bytes | None:
        replies = {Find: Found(b"", [], b""), CallBack: Stored(False)}
        body = replies.get(type(request.body))
        return polite(self, request) if body is None else self.envelope(body, request.rpc_id)

    async def scenario() -> None:
        async with serving() as (node, _), enemy(refusing) as (other, address):
            await node.test_reachability()
            await node.greet([address])
            await node.test_reachability()
            assert len(other.bodies(CallBack)) == 6
            assert node.status()["is_reachable"] is None
            await eventually(lambda: node.endpoint.outstanding == 0)

    asyncio.run(scenario())
