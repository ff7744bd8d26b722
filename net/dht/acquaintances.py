"""Whom a node of the DHT knows, and how others get to be known."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from libernet.blocks.errors import DhtError
from libernet.net.dht.complaints import Complaints
from libernet.net.dht.contact import Address, AddressPolicy, Contact
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.proof import is_proven
from libernet.net.dht.seen import SeenAs
from libernet.net.dht.table import ContactTable
from libernet.net.dht.wire import CLIENT_ONLY, Envelope, Hello, Ping, Proof, Request

PARALLEL_CHECKS = 32
RESTING_SECONDS = 900.0
"""A contact that answered so lately is not asked whether it is there still (BEP 5)."""


class Acquaintances:
    """The contacts of a node; *request* sends something, and returns the reply or None.

    One enters the table only when it has proven its id from its address. It is asked to when it
    sends a request, or answers one, and there is room for it.

    State: table; contacts, a copy of it that other threads may read; seen_as, where others say
    that this node is.
    Tasks: _checks, by address the questions that decide about a contact; close() ends them.
    """

    def __init__(
        self,
        identity: Identity,
        policy: AddressPolicy,
        complaints: Complaints,
        request: Callable[[Address, Request], Awaitable[Envelope | None]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self.table = ContactTable(Contact(identity.node_id, Address("", 0)), policy, clock=clock)
        self.contacts: tuple[Contact, ...] = ()
        self.seen_as = SeenAs(policy)
        self._identity = identity
        self._policy = policy
        self._complaints = complaints
        self._request = request
        self._clock = clock
        self._checks: dict[Address, asyncio.Task[None]] = {}

    def close(self) -> None:
        """End what goes on."""
        for check in list(self._checks.values()):
            check.cancel()

    async def greet(self, addresses: Sequence[Address]) -> tuple[set[Address], int]:
        """Say hello to nodes of which only the address is known.

        Returns the addresses that answered, and how many contacts the table gained meanwhile.
        """
        before = len(self.table)
        allowed = [each for each in addresses if self._policy.allows(each.ip)]
        answers = await asyncio.gather(*(self._check(each) for each in allowed))
        there = {address for address, is_there in zip(allowed, answers, strict=True) if is_there}
        return there, len(self.table) - before

    async def ask(self, contact: Contact, request: Request) -> Envelope | None:
        """Return the reply of *contact*, None without one; the table learns how it went."""
        reply = await self._request(contact.address, request)
        if reply is None or reply.sender != contact.id:
            self.table.fail(contact)
            self._publish()
        if reply is None:
            return None
        known = self.table.get(reply.sender)
        if known is not None and known.address == contact.address:
            self._admit(reply, contact.address)
        else:
            self.notice(reply, contact.address)
        return reply if reply.sender == contact.id else None

    def notice(self, envelope: Envelope, sender: Address) -> None:
        """Ask whoever is new to prove its id, and a contact that says that it is none any longer
        whether that is so: who says it, and its address, may be forged."""
        if envelope.flags & CLIENT_ONLY:
            known = self.table.get(envelope.sender)
            if known is not None and known.address == sender:
                self._start(sender, lambda: self.ask(known, Ping()))
        elif self._policy.allows(sender.ip) and self.table.wants(envelope.sender, sender):
            self._start(sender, lambda: self._check(sender))

    async def _check(self, address: Address) -> bool:
        """Tell whether a node at *address* proves its id; the table learns of it then."""
        to = self._policy.pack(address)
        reply = await self._request(address, Hello(to))
        if reply is None:
            return False
        if (
            not isinstance(reply.body, Proof)
            or len(reply.body.seen) != len(to)
            or not is_proven(reply, reply.body, self._identity.node_id, to)
        ):
            self._complaints.note("an id that was not proven", address)
            return False
        self.seen_as.add(address, self._policy.unpack(reply.body.seen))
        self._admit(reply, address)
        return True

    def _admit(self, reply: Envelope, address: Address) -> None:
        """Take a node whose id is proven, and which has just answered, into the table."""
        now = self._clock()
        contact = Contact(
            reply.sender,
            address,
            exchange_port=reply.exchange_port,
            flags=reply.flags,
            seen=now,
        )
        if reply.flags & CLIENT_ONLY:
            self.table.remove_contact(contact)
            self._publish()
            return
        doubtful = self.table.add(contact)
        self._publish()
        if doubtful is None:
            return
        if doubtful.id == contact.id or now - doubtful.seen > RESTING_SECONDS:
            self._start(doubtful.address, lambda: self._replace(doubtful, contact))

    async def _replace(self, doubtful: Contact, newcomer: Contact) -> None:
        """Give *newcomer* the place of *doubtful* if that one is gone."""
        if not (await self.ask(doubtful, Ping()) or await self.ask(doubtful, Ping())):
            self.table.add(newcomer)
            self._publish()

    def _publish(self) -> None:
        self.contacts = tuple(self.table)

    def _start(self, address: Address, check: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run *check*, unless there is one of that address, or too many."""
        if address in self._checks or len(self._checks) >= PARALLEL_CHECKS:
            return

        async def run() -> None:
            with contextlib.suppress(DhtError):  # the socket broke, which serve() tells
                await check()

        task = asyncio.create_task(run())
        self._checks[address] = task
        task.add_done_callback(lambda _: self._checks.pop(address, None))
