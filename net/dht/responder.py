"""What a node answers to the requests of others."""

import time
from collections.abc import Callable

from libernet.net.dht.acquaintances import Acquaintances
from libernet.net.dht.complaints import Complaints
from libernet.net.dht.contact import (
    Address,
    AddressPolicy,
    pack_contacts,
    packed_contact_bytes,
)
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.keys import packed_keys
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.proof import prove
from libernet.net.dht.providers import SAME_BLOCK, ProviderLimits, ProviderStore
from libernet.net.dht.rates import RateLimiter
from libernet.net.dht.records import SKEW_SECONDS, plain_record, read_record
from libernet.net.dht.tokens import Tokens
from libernet.net.dht.wire import (
    HELLO_REQUEST_BYTES,
    MAX_DATAGRAM_BYTES,
    Announce,
    AnnounceMany,
    AnnounceSigned,
    CallBack,
    Envelope,
    Find,
    Hello,
    Ping,
    Pong,
    Proof,
    Reply,
    Stored,
    StoredMany,
    Withdraw,
    WithdrawMany,
)
from libernet.net.dht.wire import Found as FoundReply

AMPLIFICATION = 3
"""A forged sender address gets at most this many times the bytes that its forger sent, the hello
counted that an unknown node gets beside its answer."""

_SHORT_REPLY_BYTES = 46  # at most: a pong, or what answers a request to write

LEAST_GREETED_BYTES = -(-(_SHORT_REPLY_BYTES + HELLO_REQUEST_BYTES) // AMPLIFICATION)
"""Shorter requests leave no room for a hello: pings, and what has too short a token."""

_FOUND_HEAD_BYTES = 92
_RECORD_HEAD_BYTES = 2


class Responder:
    """The serving half of a node: reads the table, keeps what others announce.

    State: providers, the records; tokens and rates. Nothing here waits.
    """

    def __init__(
        self,
        identity: Identity,
        acquaintances: Acquaintances,
        policy: AddressPolicy,
        own: OwnRecords,
        complaints: Complaints,
        *,
        call_from_another_port: Callable[[Address], bool],
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        limits = SAME_BLOCK if policy.private_network else ProviderLimits()
        self.providers = ProviderStore(clock, policy, limits)
        self._identity = identity
        self._acquaintances = acquaintances
        self._policy = policy
        self._own = own
        self._complaints = complaints
        self._wall_clock = wall_clock
        self._call_from_another_port = call_from_another_port
        self._tokens = Tokens(clock)
        self._rates = RateLimiter(clock)

    def answer(self, envelope: Envelope, sender: Address, datagram_bytes: int) -> Reply | None:
        """Return the reply to a request, None when there is none to send."""
        # On a private network all nodes may share one address.
        if not self._policy.private_network and not self._rates.allows(
            self._policy.asker(sender.ip)
        ):
            self._complaints.note("too many requests", sender)
            return None
        match envelope.body:
            case Ping():
                return Pong()
            case Find() as find:
                return self._found(find, envelope, sender, datagram_bytes)
            case Hello() as hello:
                return self._prove(hello, envelope, sender)
            case AnnounceMany() | WithdrawMany() as many:
                return StoredMany(self._write_many(many, sender))
            case Announce() | AnnounceSigned() | Withdraw() | CallBack() as single:
                return Stored(self._do(single, sender))
        return None

    def _found(
        self, find: Find, envelope: Envelope, sender: Address, request_bytes: int
    ) -> FoundReply:
        """Return contacts, then records, as far as the answer may grow."""
        room = min(MAX_DATAGRAM_BYTES, AMPLIFICATION * request_bytes - HELLO_REQUEST_BYTES)
        room = max(0, room - _FOUND_HEAD_BYTES)
        contact_bytes = packed_contact_bytes(self._policy)
        nearest = self._acquaintances.table.nearest(find.key, but={envelope.sender})
        named = [each for each in nearest if self._policy.may_name(each.ip, sender.ip)]
        contacts = named[: room // contact_bytes]
        room -= len(contacts) * contact_bytes
        asker = Address(sender.ip, envelope.exchange_port)
        records = self._records(find, asker)
        return FoundReply(
            pack_contacts(contacts, self._policy),
            _fitting(records, room),
            self._tokens.make(sender.ip),
            self._policy.pack(sender),
        )

    def _records(self, find: Find, asker: Address) -> list[bytes]:
        """Return up to find.want records, this node's own first."""
        others = self.providers.find(find.key, find.want, but=asker)
        may_name = self._policy.may_name
        told = [each.packed for each in others if may_name(each.address.ip, asker.ip)]
        return [*self._own.of(find.key), *told][: find.want]

    def _call(self, call_back: CallBack, sender: Address) -> bool:
        if not self._tokens.accepts(call_back.token, sender.ip):
            self._complaints.note("a call wanted with a wrong token", sender)
            return False
        return self._call_from_another_port(sender)

    def _prove(self, hello: Hello, envelope: Envelope, sender: Address) -> Proof | None:
        if not self._acquaintances.seen_as.may_be(self._policy.unpack(hello.to).ip):
            self._complaints.note("a hello to another address", sender)
            return None
        return prove(self._identity.keys, envelope, hello.to, self._policy.pack(sender))

    def _do(self, asked: Announce | AnnounceSigned | Withdraw | CallBack, sender: Address) -> bool:
        if isinstance(asked, Withdraw):
            return self._discard(asked, sender)
        if isinstance(asked, CallBack):
            return self._call(asked, sender)
        return self._add(asked, sender)

    def _add(self, announce: Announce | AnnounceSigned, sender: Address) -> bool:
        if not self._may_announce(announce.token, sender):
            return False
        if isinstance(announce, Announce):
            address = Address(sender.ip, announce.port)
            record = plain_record(address, announce.flags, self._policy)
            return self.providers.add(announce.key, record)
        return self._add_signed(announce, sender)

    def _write_many(self, many: AnnounceMany | WithdrawMany, sender: Address) -> int:
        """Return for how many keys it is now as asked."""
        keys, address = packed_keys(many.keys), Address(sender.ip, many.port)
        if isinstance(many, WithdrawMany):
            if not self._may_withdraw(many.token, sender):
                return 0
            for key in keys:
                self.providers.discard(key, address)
            return len(keys)
        if not self._may_announce(many.token, sender):
            return 0
        record = plain_record(address, many.flags, self._policy)
        return sum(self.providers.add(key, record, is_swept=True) for key in keys)

    def _may_announce(self, token: bytes, sender: Address) -> bool:
        if not self._policy.allows(sender.ip):
            self._complaints.note("an announcement from an address that is not dialled", sender)
            return False
        if not self._tokens.accepts(token, sender.ip):
            self._complaints.note("an announcement with a wrong token", sender)
            return False
        return True

    def _add_signed(self, announce: AnnounceSigned, sender: Address) -> bool:
        now = self._wall_clock()
        signed = read_record(announce.record, announce.key, sender, self._policy, now)
        if signed is None or signed.public_key is None or signed.address.ip != sender.ip:
            self._complaints.note("a signed announcement that does not hold", sender)
            return False
        if now - signed.signed_ms / 1000 > SKEW_SECONDS:
            self._complaints.note("a signed announcement of long ago", sender)
            return False
        return self.providers.add(announce.key, signed)

    def _discard(self, withdraw: Withdraw, sender: Address) -> bool:
        if not self._may_withdraw(withdraw.token, sender):
            return False
        self.providers.discard(withdraw.key, Address(sender.ip, withdraw.port))
        return True

    def _may_withdraw(self, token: bytes, sender: Address) -> bool:
        if not self._tokens.accepts(token, sender.ip):
            self._complaints.note("a withdrawal with a wrong token", sender)
            return False
        return True


def _fitting(records: list[bytes], room: int) -> list[bytes]:
    """Return the first of *records* that have room in a datagram."""
    fitting = []
    for record in records:
        room -= _RECORD_HEAD_BYTES + len(record)
        if room < 0:
            break
        fitting.append(record)
    return fitting
