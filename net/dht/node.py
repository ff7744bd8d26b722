"""One node of the DHT, inside an asyncio loop."""

import asyncio
import functools
import itertools
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from libernet.blocks.errors import DhtError, FormatError
from libernet.net.dht.acquaintances import Acquaintances
from libernet.net.dht.complaints import Complaints
from libernet.net.dht.contact import Address, AddressPolicy, Contact, unpack_contacts
from libernet.net.dht.endpoint import Endpoint, Identity
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.lookup import Answer, Lookup
from libernet.net.dht.neighbourhood import Swept, sweep
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.reachability import Reachability
from libernet.net.dht.records import RecordReader, RecordSigner
from libernet.net.dht.responder import LEAST_GREETED_BYTES, Responder
from libernet.net.dht.table import BUCKET_CONTACTS
from libernet.net.dht.wire import (
    CLIENT_ONLY,
    MAX_RECORDS,
    Announce,
    AnnounceMany,
    AnnounceSigned,
    CallBack,
    Envelope,
    Find,
    Ping,
    Reply,
    Request,
    Stored,
    Withdraw,
    WithdrawMany,
)
from libernet.net.dht.wire import Found as FoundReply
from libernet.net.discovery import Provider

CALLS = 3
CALL_SECONDS = 2.0
"""So many calls that do not come in that time are not lost by chance."""

PARALLEL_FINDS = 8
PARALLEL_ANNOUNCEMENTS = 2
"""So many look-ups at once keep fewer answers on their way than a default receive buffer holds
(212,992 bytes: about 90 datagrams); reading must not wait behind announcing."""


class DhtNode:
    """Ask and answer about keys, once: all methods but __init__ run in the loop of serve().

    State: acquaintances, the contacts; responder, with what others announced; own, with what this
    node did.
    Tasks: those of acquaintances, which end with serve().
    """

    def __init__(
        self,
        identity: Identity,
        policy: AddressPolicy,
        own: OwnRecords,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self.policy = policy
        self.complaints = Complaints(clock)
        self.acquaintances = Acquaintances(
            identity, policy, self.complaints, self._request, clock=clock
        )
        self.table = self.acquaintances.table
        self.own = own
        self.responder = Responder(
            identity,
            self.acquaintances,
            policy,
            self.own,
            self.complaints,
            call_from_another_port=lambda address: self._endpoint().call_from_another_port(address),
            clock=clock,
            wall_clock=wall_clock,
        )
        self.reachability = Reachability(policy, clock)
        self._wall_clock = wall_clock
        self.endpoint: Endpoint | None = None
        self._finds = asyncio.Semaphore(PARALLEL_FINDS)
        self._announcements = asyncio.Semaphore(PARALLEL_ANNOUNCEMENTS)

    async def serve(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        """Answer on *sock*, which is bound, until cancelled; DhtError when it breaks.

        Calls *ready* as soon as requests can be made.
        """
        loop = asyncio.get_running_loop()
        _, endpoint = await loop.create_datagram_endpoint(
            lambda: Endpoint(self.identity, self._answer, self.complaints, self.reachability),
            sock=sock,
        )
        self.endpoint = endpoint
        try:
            ready()
            await asyncio.shield(endpoint.closed)
            raise DhtError("the socket of the DHT broke")
        finally:
            self.acquaintances.close()
            endpoint.close()
            await endpoint.closed

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """All contacts; any thread may ask."""
        return self.acquaintances.contacts

    async def greet(self, addresses: Sequence[Address]) -> tuple[set[Address], int]:
        """Make the acquaintance of nodes, as Acquaintances.greet() says."""
        return await self.acquaintances.greet(addresses)

    async def fill(self) -> None:
        """Look up this node's own id, then, at one time, one in each bucket that still has room."""
        await self._look_up(self.identity.node_id, want=0)
        roomy = [
            bucket.range
            for bucket in self.table.buckets
            if len(bucket) < BUCKET_CONTACTS and not bucket.has_in_range(self.table.node)
        ]
        await asyncio.gather(*map(self._refresh, roomy))

    async def find(self, key: bytes, want: int) -> list[Provider]:
        """Return providers of *key*, as libernet.net.discovery.Discovery.find says."""
        want = min(max(want, 1), MAX_RECORDS)
        here = [each.provider() for each in self.responder.providers.find(key, want)]
        async with self._finds:
            lookup = await self._look_up(key, want=want, known=here)
        found = lookup.providers()
        if not found and not lookup.answered():
            raise DhtError("no other node of the DHT answers")
        return found

    async def announce(self, key: bytes, port: int, flags: int) -> int:
        """Tell the nodes nearest to *key* that this one is a provider; return how many took it.

        DhtError when none did. Whoever asks this node is told in any case.
        """
        self._require_reachable()
        self.own.add(key, port, flags)
        taken = await self._write(key, lambda answer: Announce(key, answer.token, port, flags))
        if not taken:
            raise DhtError("no other node of the DHT took the announcement")
        return taken

    async def announce_signed(self, key: bytes, port: int, flags: int) -> int:
        """Do as announce(), with a record that readers can tell from a forged one.

        Who refuses that, or does not say where it sees this node, gets one that is not signed: it
        may be this machine's clock that is wrong.
        """
        self._require_reachable()
        self.own.add(key, port, flags)
        signer = RecordSigner(self.identity.keys, key, port, flags, now=self._wall_clock())

        def request(answer: Answer) -> Request:
            if answer.seen is None:
                return Announce(key, answer.token, port, flags)
            record = signer.record(answer.seen.ip, self.policy)
            self.own.add_signed(key, record.packed)
            return AnnounceSigned(key, answer.token, record.packed)

        return await self._write(key, request) or await self.announce(key, port, flags)

    async def withdraw(self, key: bytes, port: int) -> int:
        """Tell the nodes nearest to *key* to forget this one; return how many did."""
        self.own.discard(key)
        return await self._write(key, lambda answer: Withdraw(key, answer.token, port))

    async def withdraw_signed(self, key: bytes, port: int) -> int:
        """Do as withdraw() for what announce_signed() announced."""
        self.own.discard(key)
        signer = RecordSigner(self.identity.keys, key, 0, 0, now=self._wall_clock())

        def request(answer: Answer) -> Request:
            if answer.seen is None:
                return Withdraw(key, answer.token, port)
            record = signer.record(answer.seen.ip, self.policy)
            return AnnounceSigned(key, answer.token, record.packed)

        return await self._write(key, request) or await self.withdraw(key, port)

    async def test_reachability(self) -> None:
        """Find out whether others reach this node, if there is anybody who can tell.

        When they do not, each datagram says so from then on.
        """
        reachability = self.reachability
        reachability.called.clear()
        helpers = [each for each in self.contacts if reachability.is_telling(each.ip)]
        random.shuffle(helpers)
        calls = 0
        for contact in itertools.islice(itertools.cycle(helpers), 2 * CALLS):
            calls += await self._have_called(contact)
            if calls == CALLS or reachability.called.is_set():
                break
        else:
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await reachability.called.wait()
        except TimeoutError:
            is_news = reachability.is_reachable is not False
            reachability.conclude(False)
            if is_news:
                # That each who knows this node forgets it.
                asking = (self.acquaintances.ask(each, Ping()) for each in self.contacts)
                await asyncio.gather(*asking)

    async def _have_called(self, contact: Contact) -> bool:
        """Have *contact* send a ping from another port; tell whether it says that it does."""
        reply = await self.acquaintances.ask(contact, Find(self.identity.node_id, 0))
        if reply is None or not isinstance(reply.body, FoundReply):
            return False
        return await self._write_to(contact, CallBack(reply.body.token))

    async def sweep(self, keys: Sequence[bytes], port: int, flags: int) -> Swept:
        """Announce the first of *keys* and its neighbours among them, as neighbourhood.sweep says.

        Unlike those of announce() they are not remembered here: they can be a million.
        """
        self._require_reachable()
        return await self._sweep(keys, lambda some, token: AnnounceMany(some, token, port, flags))

    async def sweep_away(self, keys: Sequence[bytes], port: int) -> Swept:
        """Take back what sweep() announced, for as many keys."""
        return await self._sweep(keys, lambda some, token: WithdrawMany(some, token, port))

    async def tidy(self) -> None:
        """Forget records that have ended; look an id up in each bucket that rested for an hour."""
        self.responder.providers.expire()
        for bucket in self.table.lonely_buckets():
            await self._refresh(bucket.range)

    def status(self) -> dict[str, Any]:
        """Return counts, as plain values; any thread may ask."""
        endpoint = self.endpoint
        return {
            "contacts": len(self.contacts),
            "announced": len(self.own),
            "records": len(self.responder.providers),
            "requests": dict(endpoint.counts) if endpoint else {},
            "is_reachable": self.reachability.is_reachable,
            "seen_as": self.acquaintances.seen_as.ip,
            "dropped": dict(self.complaints.counts),
        }

    def _require_reachable(self) -> None:
        if self.reachability.is_reachable is False:
            raise DhtError("this node cannot be reached from outside: nobody could fetch from it")

    async def _sweep(
        self, keys: Sequence[bytes], message: Callable[[bytes, bytes], Request]
    ) -> Swept:
        look_up = functools.partial(self._look_up, want=0)
        async with self._announcements:
            return await sweep(keys, look_up, self.acquaintances.ask, message)

    async def _write(self, key: bytes, request: Callable[[Answer], Request]) -> int:
        async with self._announcements:
            lookup = await self._look_up(key, want=0)
            nearest = lookup.answered()
            done = await asyncio.gather(
                *(self._write_to(contact, request(answer)) for contact, answer in nearest)
            )
        return sum(done)

    async def _write_to(self, contact: Contact, request: Request) -> bool:
        # It answered a moment ago: a datagram was lost.
        ask = self.acquaintances.ask
        reply = await ask(contact, request) or await ask(contact, request)
        return reply is not None and isinstance(reply.body, Stored) and reply.body.done

    async def _look_up(self, key: bytes, *, want: int, known: Iterable[Provider] = ()) -> Lookup:
        self.table.touch(key)

        reader = RecordReader(key, self.policy, self._wall_clock)

        async def ask(contact: Contact) -> Answer | None:
            return await self._ask_to_find(contact, Find(key, want), reader)

        patience = self._endpoint().round_trips.patience
        crowd = self.policy.crowd

        async def once() -> Lookup:
            lookup = Lookup(key, ask, patience, want, crowd)
            lookup.note(self.identity.node_id, known)
            await lookup.run(self.table.nearest(key))
            return lookup

        lookup = await once()
        # Those few who are known may have lost one datagram.
        return lookup if lookup.answered() else await once()

    async def _refresh(self, span: tuple[int, int]) -> None:
        async with self._finds:
            await self._look_up(random.randint(*span).to_bytes(KEY_BYTES), want=0)

    async def _ask_to_find(
        self, contact: Contact, find: Find, reader: RecordReader
    ) -> Answer | None:
        reply = await self.acquaintances.ask(contact, find)
        if reply is None or not isinstance(reply.body, FoundReply):
            return None
        found = reply.body
        try:
            contacts = [
                each
                for each in unpack_contacts(found.contacts, self.policy)
                if each.id != self.identity.node_id and self.policy.may_name(each.ip, contact.ip)
            ]
            seen = self.policy.unpack(found.seen) if found.seen else None
        except FormatError as exc:
            self.complaints.note(str(exc), contact.address)
            return None
        own_key = self.identity.keys.public_key
        providers = reader.read(found.records, contact.address)
        others = [each for each in providers if each.peer_id != own_key]
        return Answer(contacts, others, found.token, seen)

    def _answer(self, envelope: Envelope, sender: Address, datagram_bytes: int) -> Reply | None:
        reply = self.responder.answer(envelope, sender, datagram_bytes)
        # Nobody new begins with so little; it is too short for a hello beside the answer.
        is_short = datagram_bytes < LEAST_GREETED_BYTES and not envelope.flags & CLIENT_ONLY
        if reply is not None and not is_short:
            self.acquaintances.notice(envelope, sender)
        return reply

    async def _request(self, address: Address, request: Request) -> Envelope | None:
        return await self._endpoint().request(address, request)

    def _endpoint(self) -> Endpoint:
        if self.endpoint is None:
            raise DhtError("the DHT is not running")
        return self.endpoint
