"""Many keys announced at the cost of one look-up: what lies near to each other is kept by the same
nodes."""

import asyncio
import bisect
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from libernet.blocks.errors import DhtError
from libernet.net.dht.contact import Contact
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.lookup import Answer, Lookup
from libernet.net.dht.table import BUCKET_CONTACTS
from libernet.net.dht.wire import FIND_REQUEST_BYTES, MAX_KEYS, Envelope, Request, StoredMany

REPLICAS = 12
"""Nodes that a block's record is given to. With half of them dead one block of 4,096 is lost to
all, with 8 one of 256; with twenty, as for roots, others would need more memory for it."""

MAX_SWEPT_KEYS = 1000
"""Announced after one look-up: some 200 datagrams, so that the look-up counts for little."""

_PARALLEL_KEEPERS = 8
_HEAD_BYTES = 95
"""What is sent beside the keys: 60 to 84 for the message, and a part of what is sent again."""

_ALL_BITS = 8 * KEY_BYTES


@dataclass(frozen=True, slots=True)
class Swept:
    """How many of the keys were told, which makes so many records, how many of them were kept (or
    are gone, for a withdrawal), and what was sent."""

    keys: int
    records: int
    kept: int
    sent_bytes: int

    def and_also(self, other: Self) -> Self:
        """Return this, and what was done for the same keys with others."""
        return replace(
            self,
            records=self.records + other.records,
            kept=self.kept + other.kept,
            sent_bytes=self.sent_bytes + other.sent_bytes,
        )


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """All keys up to *last* from one that was looked up, and the nodes that keep their records."""

    last: bytes
    keepers: tuple[tuple[Contact, Answer], ...]

    @classmethod
    def of(cls, lookup: Lookup) -> Self:
        """Return what a look-up to its end has found around its key.

        It knows the BUCKET_CONTACTS nearest nodes. The largest range of ids that all begin as the
        key does and are nearer than the last of these nodes has none in it that is not known, and
        a node in it is nearer to each of its ids than any outside. Where fewer than REPLICAS are
        in it, the others are near, though not always the nearest: who looks for the key asks
        BUCKET_CONTACTS nodes and passes by them. Where fewer answered, there are no others.
        """
        keepers = tuple(lookup.answered())
        key, free_bits = int.from_bytes(lookup.key), _ALL_BITS
        if len(keepers) >= BUCKET_CONTACTS:
            free_bits = max((keepers[-1][0].long_id ^ key).bit_length() - 1, 0)
        return cls((key | (1 << free_bits) - 1).to_bytes(KEY_BYTES), keepers)

    def shares(self, keys: Iterable[bytes]) -> list[tuple[Contact, bytes, list[bytes]]]:
        """Return who is to be told of which of *keys*, with the token for it."""
        shares: list[list[bytes]] = [[] for _ in self.keepers]
        ids = [contact.long_id for contact, _ in self.keepers]
        for key in keys:
            number = int.from_bytes(key)
            for index in heapq.nsmallest(
                REPLICAS, range(len(ids)), key=lambda index: ids[index] ^ number
            ):
                shares[index].append(key)
        return [
            (contact, answer.token, share)
            for (contact, answer), share in zip(self.keepers, shares, strict=True)
            if share
        ]


async def sweep(
    keys: Sequence[bytes],
    look_up: Callable[[bytes], Awaitable[Lookup]],
    ask: Callable[[Contact, Request], Awaitable[Envelope | None]],
    message: Callable[[bytes, bytes], Request],
) -> Swept:
    """Send *message*, made of packed keys and a token, to the keepers of the first of *keys*.

    They are in ascending order; as many of them are told as are neighbours of the first, up to
    MAX_SWEPT_KEYS. Raises DhtError when nobody answers.
    """
    lookup = await look_up(keys[0])
    near = Neighbourhood.of(lookup)
    told = keys[: min(bisect.bisect_right(keys, near.last), MAX_SWEPT_KEYS)]
    sent_bytes = lookup.requests * FIND_REQUEST_BYTES
    turns = asyncio.Semaphore(_PARALLEL_KEEPERS)

    async def tell(contact: Contact, token: bytes, share: list[bytes]) -> tuple[int, int]:
        """Return how many records were kept, and the bytes that it took; the silent are left."""
        kept, spent = 0, 0
        async with turns:
            for start in range(0, len(share), MAX_KEYS):
                packed = b"".join(share[start : start + MAX_KEYS])
                request = message(packed, token)
                spent += _HEAD_BYTES + len(packed)
                # It answered a moment ago: a datagram was lost.
                reply = await ask(contact, request) or await ask(contact, request)
                if reply is None or not isinstance(reply.body, StoredMany):
                    break
                kept += reply.body.count
                if not reply.body.count:
                    break  # it is full
        return kept, spent

    shares = near.shares(told)
    outcomes = await asyncio.gather(*(tell(*each) for each in shares))
    if not outcomes:
        raise DhtError("no other node of the DHT answers")
    return Swept(
        len(told),
        records=sum(len(share) for _, _, share in shares),
        kept=sum(kept for kept, _ in outcomes),
        sent_bytes=sent_bytes + sum(spent for _, spent in outcomes),
    )
