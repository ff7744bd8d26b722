"""Enemies of the DHT that follow its protocol: floods, fake contacts, and sieges of a key.

All on simulated wires, where no time passes while nobody waits.
"""

import logging
import random
from collections.abc import Callable

import pytest

from libernet.net.address import PeerAddress
from libernet.net.dht.acquaintances import PARALLEL_CHECKS
from libernet.net.dht.contact import MAX_NEIGHBOURS, Address, Contact, pack_contacts
from libernet.net.dht.keys import KEY_BYTES, node_id_of
from libernet.net.dht.lookup import LOOKUP_SECONDS, MAX_REQUESTS
from libernet.net.dht.node import DhtNode
from libernet.net.dht.rates import BURST_REQUESTS, MAX_ASKERS
from libernet.net.dht.reachability import MAX_WRITTEN
from libernet.net.dht.table import BUCKET_CONTACTS
from libernet.net.dht.wire import Announce, Envelope, Find, Found, Reply, Request, encode
from libernet.net.identity import NodeIdentity
from tests.support.simulation import EXCHANGE_PORT, UDP_PORT, SimulatedNetwork, simulate

KEY = b"k" * KEY_BYTES
OTHER_KEY = b"o" * KEY_BYTES
HONEST = 40


# Floods


def flooded(
    request: Callable[[random.Random, int], tuple[Request, Address]], count: int
) -> DhtNode:
    """Return a node that got so many requests, each under another id, in one moment."""

    async def work(network: SimulatedNetwork) -> DhtNode:
        [node] = network.nodes
        for number in range(count):
            body, sender = request(network.random, number)
            envelope = Envelope(
                network.random.randbytes(8), network.random.randbytes(KEY_BYTES), 1, 1, body
            )
            node.endpoint.datagram_received(encode(envelope), sender)
        return node

    return simulate(work, nodes=1)


def test_a_flood_from_one_address_is_answered_so_often_and_then_not_at_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    node = flooded(
        lambda source, _: (Find(KEY, 8), Address("8.8.8.8", source.randrange(1, 65536))), 5000
    )
    assert node.endpoint.counts["served"] == BURST_REQUESTS
    assert node.complaints.counts == {"too many requests": 5000 - BURST_REQUESTS}
    assert node.endpoint.counts["sent"] <= PARALLEL_CHECKS
    assert len(caplog.records) == 1


def test_a_flood_from_ever_new_addresses_takes_bounded_memory_and_brings_forth_few_hellos() -> None:
    node = flooded(
        lambda _, number: (Find(KEY, 8), Address(f"9.{number >> 8}.{number & 255}.1", 1)), 10_000
    )
    assert node.endpoint.counts["served"] == 10_000
    assert node.endpoint.counts["sent"] <= PARALLEL_CHECKS
    assert len(node.acquaintances._checks) <= PARALLEL_CHECKS
    assert len(node.reachability._written) <= MAX_WRITTEN
    assert len(node.responder._rates._left) <= MAX_ASKERS
    assert node.contacts == ()


def test_a_flood_of_announcements_without_tokens_leaves_nothing() -> None:
    node = flooded(
        lambda source, number: (
            Announce(source.randbytes(KEY_BYTES), source.randbytes(8), 1, 1),
            Address(f"8.8.{number & 255}.8", 4848),
        ),
        5000,
    )
    assert len(node.responder.providers) == 0


# Nodes that prove who they are and then lie


def betray(node: DhtNode, contacts: Callable[[bytes], list[Contact]]) -> None:
    """Let *node* name these contacts when it is asked for a key, and never a provider."""
    honest = node.responder.answer

    def answer(envelope: Envelope, sender: Address, size: int) -> Reply | None:
        reply = honest(envelope, sender, size)
        if isinstance(reply, Found) and isinstance(envelope.body, Find):
            named = pack_contacts(contacts(envelope.body.key), node.policy)
            return Found(named, [], reply.token, reply.seen)
        return reply

    node.responder.answer = answer  # type: ignore[method-assign]


async def introduce(network: SimulatedNetwork, node: DhtNode) -> None:
    for other in network.nodes[:HONEST]:
        await node.greet([network.address(other)])


def test_five_hundred_fake_contacts_keep_nobody_from_finding_the_right_one() -> None:
    """They are nearer to the key than anybody, and nobody is there."""
    fakes: set[bytes] = set()

    async def work(network: SimulatedNetwork) -> None:
        def fake(key: bytes) -> list[Contact]:
            source = network.random
            made = [
                Contact(key[:10] + source.randbytes(10), Address(f"99.{a}.{b}.1", UDP_PORT))
                for a, b in (source.randbytes(2) for _ in range(40))
            ]
            fakes.update(each.id for each in made)
            return made

        for _ in range(15):
            node = await network.add()
            betray(node, fake)
            await introduce(network, node)
        maker, *readers = network.nodes[:HONEST]
        await maker.announce_signed(KEY, EXCHANGE_PORT, 1)
        for reader in readers[:10]:
            began, sent = network.loop.time(), reader.endpoint.counts["sent"]
            [provider] = await reader.find(KEY, 8)
            assert provider.address.host == network.address(maker).ip
            assert network.loop.time() - began <= LOOKUP_SECONDS
            assert reader.endpoint.counts["sent"] - sent <= MAX_REQUESTS
        began = network.loop.time()
        assert await maker.find(OTHER_KEY, 8) == []
        assert network.loop.time() - began <= LOOKUP_SECONDS
        known = {each.id for node in network.nodes[:HONEST] for each in node.contacts}
        assert not known & fakes

    simulate(work, nodes=HONEST)
    assert len(fakes) >= 500


def keys_near(key: bytes, bits: int, source: random.Random) -> NodeIdentity:
    """Return keys whose node id begins with the same bits as *key*; that takes 2**bits tries."""
    while True:
        keys = NodeIdentity(source.randbytes(32))
        distance = int.from_bytes(node_id_of(keys.public_key)) ^ int.from_bytes(key)
        if distance >> (8 * KEY_BYTES - bits) == 0:
            return keys


def test_a_whole_address_block_around_a_key_keeps_nobody_from_finding_it() -> None:
    """Thirty nodes of one block are nearer than anybody, and name only each other."""

    async def work(network: SimulatedNetwork) -> None:
        besiegers: list[Contact] = []
        for number in range(30):
            address = Address(f"66.6.6.{number + 1}", UDP_PORT)
            node = await network.add(address=address, keys=keys_near(KEY, 7, network.random))
            besiegers.append(Contact(node.identity.node_id, address))
            betray(node, lambda _: besiegers)
            await introduce(network, node)
        maker, *readers = network.nodes[:HONEST]
        in_table = [each for each in maker.contacts if each.ip.startswith("66.6.6.")]
        assert len(in_table) <= MAX_NEIGHBOURS
        assert await maker.announce_signed(KEY, EXCHANGE_PORT, 1) == BUCKET_CONTACTS
        provider = PeerAddress(network.address(maker).ip, EXCHANGE_PORT)
        for reader in readers[:10]:
            assert [each.address for each in await reader.find(KEY, 8)] == [provider]

    simulate(work, nodes=HONEST)
