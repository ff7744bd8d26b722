"""Ids that cannot be stolen: who is known has proven its own."""

import asyncio

import pytest

from libernet.net.dht.keys import node_id_of
from libernet.net.dht.node import DhtNode
from libernet.net.dht.proof import is_proven, prove
from libernet.net.dht.responder import AMPLIFICATION
from libernet.net.dht.wire import (
    AnnounceMany,
    CallBack,
    Envelope,
    Find,
    Found,
    Hello,
    Ping,
    Pong,
    Proof,
    Withdraw,
    decode,
    encode,
)
from tests.support.dht import network, new_keys, serving
from tests.support.dht_enemies import Enemy, enemy, eventually, polite

KEY = b"k" * 20
ASKER = b"a" * 20
RPC_ID = b"12345678"
TO = b"\x08\x08\x08\x08\x12\xf0"


def proof_for(rpc_id: bytes = RPC_ID, asker: bytes = ASKER, to: bytes = TO) -> Envelope:
    """Return the reply to a hello."""
    keys = new_keys()
    proof = prove(keys, Envelope(rpc_id, asker, 1, 0, Hello(to)), to, TO)
    return Envelope(RPC_ID, node_id_of(keys.public_key), 1, 0, proof)


def holds(reply: Envelope) -> bool:
    assert isinstance(reply.body, Proof)
    return is_proven(reply, reply.body, ASKER, TO)


def test_a_proof_holds_for_who_asked_what_was_asked_and_where() -> None:
    assert holds(proof_for())
    assert not holds(proof_for(rpc_id=b"87654321"))
    assert not holds(proof_for(asker=b"b" * 20))
    assert not holds(proof_for(to=TO[:-1] + b"\xf1"))


def test_a_proof_is_no_proof_of_another_id() -> None:
    reply = proof_for()
    assert not holds(Envelope(RPC_ID, KEY, 1, 0, reply.body))
    other = proof_for()
    assert not holds(Envelope(RPC_ID, reply.sender, 1, 0, other.body))


def ids(node: DhtNode) -> set[bytes]:
    return {each.id for each in node.contacts}


def claiming(victim: bytes) -> object:
    """Return replies under the id of another, with the proof of its own key."""

    def reply(self: Enemy, request: Envelope) -> bytes | None:
        self.id = victim
        return polite(self, request)

    return reply


def test_who_uses_the_id_of_another_gets_into_no_table_and_displaces_nobody() -> None:
    async def scenario() -> None:
        async with network(2) as [node, victim], enemy() as (thief, address):
            thief._reply = lambda envelope: claiming(victim.identity.node_id)(thief, envelope)
            assert await node.greet([address]) == (set(), 0)
            [known] = node.contacts
            assert known.id == victim.identity.node_id
            assert known.address != address
            assert node.complaints.counts["an id that was not proven"] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["replayed", "wrong key", "wrong signature", "a pong"])
def test_a_proof_that_does_not_hold_gets_nobody_into_a_table(kind: str) -> None:
    heard: list[bytes] = []

    def reply(self: Enemy, request: Envelope) -> bytes | None:
        honest = polite(self, request)
        if honest is None:
            return None
        heard.append(honest)
        proof = decode(honest).body
        bodies = {
            "replayed": decode(heard[0]).body,
            "wrong key": Proof(new_keys().public_key, proof.signature, proof.seen),
            "wrong signature": Proof(proof.public_key, bytes(64), proof.seen),
            "a pong": Pong(),
        }
        return self.envelope(bodies[kind], request.rpc_id)

    async def scenario() -> None:
        async with serving() as (first, _), serving() as (node, _), enemy(reply) as (_, address):
            # What is replayed proved the id to another node, and was right there.
            assert await first.greet([address]) == (
                ({address}, 1) if kind == "replayed" else (set(), 0)
            )
            assert await node.greet([address]) == (set(), 0)
            assert node.contacts == ()

    asyncio.run(scenario())


def test_a_contact_that_moved_is_known_at_its_new_address_soon() -> None:
    async def scenario() -> None:
        async with serving() as (node, address):
            async with enemy(polite) as (before, old):
                await node.greet([old])
            async with enemy(polite) as (after, new):
                after.keys, after.id = before.keys, before.id
                after.transport.sendto(after.envelope(Find(KEY, 0)), address)
                await eventually(lambda: [each.address for each in node.contacts] == [new])

    asyncio.run(scenario())


def test_who_is_known_is_not_asked_for_its_proof_again() -> None:
    async def scenario() -> None:
        async with serving() as (node, address), enemy(polite) as (asker, _):
            for _ in range(20):
                asker.transport.sendto(asker.envelope(Find(KEY, 8)), address)
                await eventually(lambda: ids(node))
            await eventually(lambda: len(asker.bodies(Found)) == 20)
            assert len(asker.bodies(Hello)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    [Ping(), CallBack(b""), AnnounceMany(b"", b"", 1, 1), Withdraw(KEY, b"", 1), Find(KEY, 8)],
    ids=lambda body: type(body).__name__,
)
def test_a_stranger_gets_at_most_three_times_what_it_sent_the_hello_counted(body: object) -> None:
    """Its address may be forged."""

    async def scenario() -> None:
        async with serving() as (_, address), enemy() as (stranger, _):
            sent = encode(Envelope(RPC_ID, stranger.id, 1, 0, body))
            stranger.transport.sendto(sent, address)
            await eventually(lambda: stranger.received)
            await asyncio.sleep(0.05)  # the hello follows at once
            assert sum(map(len, stranger.received)) <= AMPLIFICATION * len(sent)

    asyncio.run(scenario())
