"""Nodes on real sockets of loopback: many at once, and one among enemies."""

import asyncio
import contextlib
import logging
import secrets

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import DhtError
from libernet.net.dht.contact import Address
from libernet.net.dht.endpoint import Endpoint
from libernet.net.dht.keys import node_id_of
from libernet.net.dht.node import DhtNode
from libernet.net.dht.wire import (
    CLIENT_ONLY,
    MAX_DATAGRAM_BYTES,
    PREFIX,
    Envelope,
    Find,
    Found,
    Hello,
    Ping,
    Pong,
    Reply,
    Stored,
    decode,
    encode,
)
from libernet.net.discovery import RECORD_SECONDS
from tests.support.dht import ManualClock, bound_socket, network, new_keys, sent, serving
from tests.support.dht_enemies import Enemy, enemy, eventually, polite

KEY = b"k" * 20


def ports(providers: list) -> list[int]:
    return sorted(each.address.port for each in providers)


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests count as unanswered after a time that is long for loopback."""
    monkeypatch.setattr("libernet.net.dht.endpoint.REQUEST_SECONDS", 0.2)


# Many nodes


def test_thirty_nodes_find_every_provider_of_a_key() -> None:
    async def scenario() -> None:
        async with network(30) as nodes:
            for number in range(0, 30, 3):
                await nodes[number].announce(KEY, 1000 + number, 1)
            for node in nodes[1::3]:
                assert ports(await node.find(KEY, 64)) == list(range(1000, 1030, 3))

    asyncio.run(scenario())


def test_announcing_and_finding_take_few_requests_and_lose_none() -> None:
    async def scenario() -> None:
        async with network(30) as nodes:
            before = sent(nodes)
            assert await nodes[3].announce(KEY, 1003, 1) == 20
            assert sent(nodes) - before <= 60
            await asyncio.gather(*(nodes[7].find(KEY, 8) for _ in range(4)))
            assert sum(node.endpoint.counts["unanswered"] for node in nodes) == 0

    asyncio.run(scenario())


def test_a_withdrawn_announcement_is_gone_everywhere_and_others_stay() -> None:
    async def scenario() -> None:
        async with network(12) as nodes:
            await nodes[3].announce(KEY, 1003, 1)
            await nodes[4].announce(KEY, 1004, 1)
            await nodes[3].withdraw(KEY, 1003)
            for node in nodes[5:]:
                assert ports(await node.find(KEY, 8)) == [1004]

    asyncio.run(scenario())


def test_records_end_after_a_day_unless_their_provider_announces_again() -> None:
    clock = ManualClock()

    async def scenario() -> None:
        async with network(8, clock=clock) as nodes:
            await nodes[3].announce(KEY, 1003, 1)
            await nodes[4].announce(KEY, 1004, 1)
            clock.now += RECORD_SECONDS / 2
            await nodes[4].announce(KEY, 1004, 1)
            # Neither being asked for nor being met again makes a record last.
            assert ports(await nodes[6].find(KEY, 8)) == [1003, 1004]
            for node in nodes:
                await node.fill()
            clock.now += RECORD_SECONDS / 2
            assert ports(await nodes[6].find(KEY, 8)) == [1004]
            clock.now += RECORD_SECONDS / 2
            assert ports(await nodes[6].find(KEY, 8)) == []

    asyncio.run(scenario())


def test_a_provider_answers_for_itself_when_nobody_else_was_there_to_be_told() -> None:
    async def scenario() -> None:
        async with serving(1000) as (first, address), serving(1001) as (second, _):
            with pytest.raises(DhtError):
                await first.announce(KEY, 1000, 1)
            await second.greet([address])
            assert ports(await second.find(KEY, 8)) == [1000]

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_timeout")
def test_a_find_that_nobody_answers_is_an_error_and_no_miss() -> None:
    async def scenario() -> None:
        async with serving() as (node, _):
            with pytest.raises(DhtError):
                await node.find(KEY, 8)
            async with serving() as (_, address):
                await node.greet([address])
                assert await node.find(KEY, 8) == []
            with pytest.raises(DhtError):
                await node.find(KEY, 8)

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_timeout")
def test_one_lost_datagram_of_the_only_contact_fails_no_find() -> None:
    async def scenario() -> None:
        def deaf_once(self: Enemy, request: Envelope) -> bytes | None:
            if not isinstance(request.body, Find):
                return polite(self, request)
            heard.append(request)
            return self.envelope(Found(b"", [], b""), request.rpc_id) if heard[1:] else None

        heard: list[Envelope] = []
        async with serving() as (node, _), enemy(deaf_once) as (_, address):
            await node.greet([address])
            assert await node.find(KEY, 8) == []
            assert len(node.contacts) == 1

    asyncio.run(scenario())


# Who gets into the table


def test_who_asks_is_known_only_after_it_proved_its_id() -> None:
    async def scenario() -> None:
        async with serving() as (node, address), enemy(polite) as (asker, _):
            asker.transport.sendto(asker.envelope(Find(KEY, 8)), address)
            await eventually(lambda: asker.id in {each.id for each in node.contacts})
            assert {type(decode(each).body) for each in asker.received} == {Hello, Found}

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_timeout")
def test_who_does_not_answer_gets_into_no_table_and_one_hello_for_many_requests() -> None:
    async def scenario() -> None:
        async with serving() as (node, address), enemy() as (asker, _):
            for _ in range(50):
                asker.transport.sendto(asker.envelope(Find(KEY, 8)), address)
            await eventually(lambda: node.endpoint.counts["unanswered"])
            assert node.contacts == ()
            assert len(asker.bodies(Hello)) == 1

    asyncio.run(scenario())


def test_a_node_that_only_asks_is_served_and_gets_into_no_table() -> None:
    async def scenario() -> None:
        async with serving(1000) as (node, address), serving(0, flags=CLIENT_ONLY) as (client, _):
            await client.greet([address])
            assert await client.announce(KEY, 5000, 1) == 1
            assert node.contacts == ()
            assert len(client.contacts) == 1

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_timeout")
def test_a_contact_that_came_back_under_another_id_replaces_itself() -> None:
    def answering(self: Enemy, request: Envelope) -> bytes:
        return polite(self, request) or self.envelope(Found(b"", [], b""), request.rpc_id)

    async def scenario() -> None:
        async with serving() as (node, _), enemy(answering) as (other, address):
            await node.greet([address])
            other.keys = new_keys()
            other.id = node_id_of(other.keys.public_key)
            for _ in range(2):
                with contextlib.suppress(DhtError):
                    await node.find(KEY, 8)
            await eventually(lambda: [each.id for each in node.contacts] == [other.id])

    asyncio.run(scenario())


def test_a_cancelled_find_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with serving() as (node, _), enemy(polite) as (_, address):
            await node.greet([address])
            finds = [asyncio.create_task(node.find(KEY, 8)) for _ in range(200)]
            await eventually(lambda: node.endpoint.outstanding)
            for find in finds:
                find.cancel()
            await asyncio.wait(finds)
            await eventually(lambda: node.endpoint.outstanding == 0)
            assert node.endpoint.counts["unanswered"] == 0
            assert len(asyncio.all_tasks()) == 2  # this one and the node

    asyncio.run(scenario())


def test_contacts_on_private_addresses_are_not_dialled_on_a_public_network() -> None:
    async def scenario() -> None:
        async with serving(private_network=False) as (node, address), enemy(polite) as (asker, lan):
            asker.transport.sendto(asker.envelope(Find(KEY, 8)), address)
            await eventually(lambda: node.endpoint.counts["served"])
            assert await node.greet([lan]) == (set(), 0)
            assert node.endpoint.counts["sent"] == 0
            node.policy.trust(lan.ip)
            assert await node.greet([lan]) == ({lan}, 1)

    asyncio.run(scenario())


# Malformed replies and datagrams


def envelope_with(body: object, request: Envelope, self: Enemy) -> bytes:
    return PREFIX + msgspec.msgpack.encode([request.rpc_id, self.id, 1, 666, body])


def packed(*ports: int) -> bytes:
    return b"".join(
        secrets.token_bytes(20) + bytes((127, 0, 0, 1)) + port.to_bytes(2) for port in ports
    )


EVIL_REPLIES = {
    "a port of 70000": [66, [[b"n" * 20, "127.0.0.1", 70000]], [], b""],
    "a port of -1": [66, [[b"n" * 20, "127.0.0.1", -1]], [], b""],
    "a port that is text": [66, [[b"n" * 20, "127.0.0.1", "x"]], [], b""],
    "a host name": [66, [[b"n" * 20, "a..b", 4848]], [], b""],
    "contacts on port 0": [66, packed(*[0] * 20), [], b""],
    "half a contact": [66, packed(1, 2)[:-3], [], b""],
    "forty contacts": [66, packed(*range(1, 41)), [], b""],
    "contacts at no address": [66, (b"n" * 20 + bytes(4) + b"\x12\xf0") * 10, [], b""],
    "broadcast contacts": [66, (b"n" * 20 + b"\xff" * 4 + b"\x12\xf0") * 10, [], b""],
    "records of all kinds": [66, b"", [b"", b"\x01", b"\x01" * 8, b"\x07" * 99, bytes(8)], b""],
    "a record on port 0": [66, b"", [b"\x01\x01\x00\x00\x7f\x00\x00\x01"], b""],
    "a long token": [66, b"", [], b"t" * 900],
    "a dict": {"value": 1},
    "a number": 7,
    "nothing": None,
    "a pong": [65],
    "a stored": [67, True],
    "a request": [1],
}


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("kind", EVIL_REPLIES)
def test_an_evil_reply_hurts_nobody_and_the_honest_are_heard(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def evil(self: Enemy, request: Envelope) -> bytes | None:
        if not isinstance(request.body, Find):
            return polite(self, request)
        return envelope_with(EVIL_REPLIES[kind], request, self)

    async def scenario() -> None:
        async with network(4) as nodes, enemy(evil) as (other, address):
            victim = nodes[1]
            await victim.greet([address])
            await nodes[2].announce(KEY, 1002, 1)
            victim.responder.providers.discard(KEY, Address("127.0.0.1", 1002))
            async with asyncio.timeout(5):
                found = ports(await victim.find(KEY, 8))
            assert 1002 in found
            assert 0 not in found
            assert Find in {type(decode(each).body) for each in other.received}
            assert not victim.endpoint.closed.done()

    asyncio.run(scenario())
    assert len(caplog.records) <= 3


class Wire:
    """Stands for a transport; keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []

    def is_closing(self) -> bool:
        return False

    def sendto(self, data: bytes, addr: Address) -> None:
        self.sent.append((data, addr))


@given(st.lists(st.binary(max_size=300).map(lambda noise: PREFIX + noise), max_size=20), st.data())
@settings(deadline=None, max_examples=100)
def test_no_datagram_makes_the_endpoint_raise_or_send_too_much(
    noise: list[bytes], data: st.DataObject
) -> None:
    bodies = [
        [1], [2, KEY, 8], [2, KEY, 64, bytes(300)], [3, KEY, b"t", 1, 1], [4, KEY, b"t", 1],
        [65], [66, b"", [], b""], [67, True], [], ["x"], {}, 1, None, [[[]]], [2, [KEY], 8],
    ]  # fmt: skip
    shaped = [
        PREFIX + msgspec.msgpack.encode(
            [secrets.token_bytes(8), data.draw(st.sampled_from([KEY, b"", 1])), 1, 1, body]
        )
        for body in bodies
    ]  # fmt: skip

    async def scenario() -> None:
        async with serving() as (node, _):
            wire = Wire()
            endpoint = Endpoint(node.identity, node._answer, node.complaints, node.reachability)
            endpoint.connection_made(wire)
            for datagram in noise + shaped:
                before = len(wire.sent)
                endpoint.datagram_received(datagram, ("127.0.0.1", 9))
                replies = [sent for sent, _ in wire.sent[before:]]
                assert sum(map(len, replies)) <= max(3 * len(datagram), MAX_DATAGRAM_BYTES)
            assert endpoint.outstanding == 0
            assert node.complaints.counts["unforeseen"] == 0

    asyncio.run(scenario())


def test_a_mistake_of_our_own_is_logged_once_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(envelope: Envelope, sender: Address, size: int) -> Reply | None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with serving() as (node, _):
            endpoint = Endpoint(node.identity, broken, node.complaints, node.reachability)
            for _ in range(100):
                ping = Envelope(b"12345678", KEY, 1, 1, Ping())
                endpoint.datagram_received(encode(ping), ("127.0.0.1", 9))
            assert node.complaints.counts["unforeseen"] == 100

    asyncio.run(scenario())
    [record] = caplog.records
    assert "mistake" in record.message


@pytest.mark.usefixtures("short_timeout")
def test_a_reply_from_elsewhere_than_was_asked_is_not_taken() -> None:
    async def scenario() -> None:
        async with serving() as (node, address), enemy() as (asked, there), enemy() as (liar, _):
            greeting = asyncio.create_task(node.greet([there]))
            await eventually(lambda: asked.received)
            rpc_id = decode(asked.received[0]).rpc_id
            liar.transport.sendto(liar.envelope(Pong(), rpc_id), address)
            assert await greeting == (set(), 0)
            assert node.contacts == ()

    asyncio.run(scenario())


def test_a_datagram_under_the_own_id_is_dropped() -> None:
    async def scenario() -> None:
        async with serving() as (node, address), enemy() as (mirror, _):
            mirror.id = node.identity.node_id
            mirror.transport.sendto(mirror.envelope(Ping()), address)
            await eventually(lambda: node.complaints.counts)
            assert mirror.received == []

    asyncio.run(scenario())


def test_a_socket_that_breaks_ends_the_node_with_an_error() -> None:
    async def scenario() -> None:
        with bound_socket() as sock:
            async with serving() as (node, _):
                other = DhtNode(node.identity, node.policy, node.own, clock=ManualClock())
                serve = asyncio.create_task(other.serve(sock, lambda: None))
                await eventually(lambda: other.endpoint)
                other.endpoint.close()
                with pytest.raises(DhtError):
                    await serve
                with pytest.raises(DhtError):
                    await other.greet([Address("127.0.0.1", 9)])

    asyncio.run(scenario())


def test_stored_answers_no_find() -> None:
    """A reply of the wrong kind is as good as none."""

    async def scenario() -> None:
        def stored(self: Enemy, request: Envelope) -> bytes:
            return polite(self, request) or self.envelope(Stored(True), request.rpc_id)

        async with serving() as (node, _), enemy(stored) as (_, address):
            await node.greet([address])
            with pytest.raises(DhtError):
                await node.find(KEY, 8)

    asyncio.run(scenario())
