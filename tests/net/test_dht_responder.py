"""What a node answers, and how little it lets others do with it."""

import socket
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.net.dht.acquaintances import Acquaintances
from libernet.net.dht.complaints import Complaints
from libernet.net.dht.contact import Address, AddressPolicy, Contact, unpack_contacts
from libernet.net.dht.endpoint import Identity
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.rates import BURST_REQUESTS
from libernet.net.dht.records import RecordReader, RecordSigner, plain_record
from libernet.net.dht.responder import AMPLIFICATION, Responder
from libernet.net.dht.seen import MAX_REPORTS
from libernet.net.dht.wire import (
    FIND_REQUEST_BYTES,
    HELLO_REQUEST_BYTES,
    MAX_DATAGRAM_BYTES,
    Announce,
    AnnounceMany,
    CallBack,
    Envelope,
    Find,
    Found,
    Hello,
    Ping,
    Pong,
    Reply,
    Request,
    Stored,
    StoredMany,
    Withdraw,
    WithdrawMany,
    encode,
)
from libernet.net.discovery import RECORD_SECONDS
from tests.support.dht import ManualClock, new_keys

KEY = b"k" * 20
OTHER_KEY = b"K" * 20
ASKER = b"a" * 20
HERE = Address("8.8.8.8", 4848)
THERE = Address("9.9.9.9", 4848)
FAMILIES = [(socket.AF_INET, "8.8.{}.8"), (socket.AF_INET6, "2001:4860:4{:03}::8")]


async def nobody_answers(address: Address, request: Request) -> None:
    return None


@dataclass
class Asked:
    """A responder with a full table, and whoever asks it."""

    family: socket.AddressFamily = socket.AF_INET
    pattern: str = "8.8.{}.8"
    private: bool = False
    clock: ManualClock = field(default_factory=ManualClock)
    wall_clock: ManualClock = field(default_factory=ManualClock)
    called: list[Address] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = AddressPolicy(self.family, private_network=self.private)
        self.complaints = Complaints(self.clock)
        self.own = OwnRecords(self.clock)
        self.identity = Identity(new_keys(), 4848, 1)
        self.acquaintances = Acquaintances(
            self.identity, self.policy, self.complaints, nobody_answers, clock=self.clock
        )
        self.table = self.acquaintances.table
        self.responder = Responder(
            self.identity,
            self.acquaintances,
            self.policy,
            self.own,
            self.complaints,
            call_from_another_port=self.call,
            clock=self.clock,
            wall_clock=self.wall_clock,
        )
        for number in range(100):
            address = Address(self.pattern.format(number), 4848)
            self.table.add(Contact(number.to_bytes() + b"n" * 19, address))

    def call(self, address: Address) -> bool:
        self.called.append(address)
        return True

    def fill(self, count: int = 64) -> None:
        for number in range(count):
            address = Address(self.pattern.format(number + 100), 4848)
            assert self.responder.providers.add(KEY, plain_record(address, 1, self.policy))

    def ask(
        self, request: Request, sender: Address = HERE, *, exchange_port: int = 0, size: int = 440
    ) -> Reply | None:
        envelope = Envelope(b"12345678", ASKER, 1, exchange_port, request)
        return self.responder.answer(envelope, sender, size)

    def found(self, sender: Address = HERE, **options: int) -> Found:
        reply = self.ask(Find(KEY, 64), sender, **options)
        assert isinstance(reply, Found)
        return reply

    def ports(self, sender: Address = HERE, **options: int) -> list[tuple[str, int]]:
        """Return where the providers listen that *sender* is told of."""
        records = self.found(sender, **options).records
        reader = RecordReader(KEY, self.policy, self.wall_clock)
        return [
            (each.address.host, each.address.port)
            for each in reader.read(records, Address("1.1.1.1", 1))
        ]


def test_strangers_are_told_of_nobody_in_the_own_network() -> None:
    neighbour = Address("192.168.1.5", 4848)
    asked = Asked()
    asked.policy.trust(neighbour.ip)
    asked.table.flush()
    asked.table.add(Contact(KEY, neighbour))
    assert asked.responder.providers.add(KEY, plain_record(neighbour, 1, asked.policy))

    def named(sender: Address) -> tuple[bool, bool]:
        contacts = unpack_contacts(asked.found(sender).contacts, asked.policy)
        return neighbour in [each.address for each in contacts], bool(asked.found(sender).records)

    assert named(Address("192.168.1.6", 4848)) == (True, True)
    assert named(HERE) == (False, False)


def test_strangers_name_nobody_in_the_own_network() -> None:
    asked = Asked()
    asked.policy.trust("192.168.1.5")
    record = plain_record(Address("192.168.1.5", 80), 1, asked.policy).packed
    reader = RecordReader(KEY, asked.policy, asked.wall_clock)
    assert list(reader.read([record], HERE)) == []
    assert list(reader.read([record], Address("192.168.1.6", 4848))) != []


@pytest.mark.parametrize(("family", "pattern"), FAMILIES)
@given(size=st.integers(64, 1200), want=st.integers(0, 64))
@settings(deadline=None, max_examples=60)
def test_an_answer_has_at_most_three_times_the_bytes_of_its_request(
    family: socket.AddressFamily, pattern: str, size: int, want: int
) -> None:
    asked = Asked(family, pattern)
    asked.fill()
    asked.own.add(KEY, 4848, 1)
    for ip in (pattern.format(number) for number in range(4)):
        signer = RecordSigner(new_keys(), KEY, 4848, 1, now=asked.wall_clock())
        asked.responder.providers.add(KEY, signer.record(ip, asked.policy))
    reply = asked.ask(Find(KEY, want), Address(pattern.format(99), 4848), size=size)
    assert reply is not None
    datagram = encode(Envelope(b"12345678", bytes(20), 255, 65535, reply))
    assert len(datagram) <= MAX_DATAGRAM_BYTES
    assert len(datagram) + HELLO_REQUEST_BYTES <= AMPLIFICATION * size


@pytest.mark.parametrize(("family", "pattern"), FAMILIES)
def test_a_proof_and_a_hello_beside_it_have_at_most_three_times_the_bytes_of_a_hello(
    family: socket.AddressFamily, pattern: str
) -> None:
    asked = Asked(family, pattern)
    sender = Address(pattern.format(99), 4848)
    hello = Hello(asked.policy.pack(sender))
    shortest = encode(Envelope(b"12345678", bytes(20), 0, 0, hello))
    longest = encode(Envelope(b"12345678", bytes(20), 255, 65535, hello))
    assert len(shortest) == len(longest) == HELLO_REQUEST_BYTES
    reply = asked.ask(hello, sender)
    assert reply is not None
    datagram = encode(Envelope(b"12345678", bytes(20), 255, 65535, reply))
    assert len(datagram) + HELLO_REQUEST_BYTES <= AMPLIFICATION * HELLO_REQUEST_BYTES


def test_a_hello_to_another_address_than_the_own_is_not_answered() -> None:
    asked = Asked()
    hello = Hello(asked.policy.pack(THERE))
    assert asked.ask(hello) is not None
    for reporter in ("8.8.1.1", "8.8.2.1", "8.8.3.1"):
        asked.acquaintances.seen_as.add(Address(reporter, 4848), HERE)
    assert asked.ask(hello) is None
    assert asked.ask(Hello(asked.policy.pack(HERE))) is not None
    assert asked.ask(Hello(asked.policy.pack(Address("192.168.1.5", 4848)))) is not None


def test_where_a_node_is_others_must_agree_about() -> None:
    seen = Asked().acquaintances.seen_as
    for reporter in range(9):
        seen.add(Address(f"9.9.9.{reporter}", 4848), THERE)
    assert seen.ip is None
    for block in range(3):
        seen.add(Address(f"9.9.{block}.1", 4848), HERE)
    assert seen.ip == HERE.ip
    for block in range(4):
        seen.add(Address(f"7.7.{block}.1", 4848), THERE)
    assert seen.ip == THERE.ip
    for block in range(MAX_REPORTS):
        seen.add(Address(f"6.6.{block}.1", 4848), Address(f"5.5.5.{block}", 4848))
    assert seen.ip is None


def test_a_padded_find_is_answered_in_full() -> None:
    asked = Asked()
    asked.fill()
    found = asked.found(size=FIND_REQUEST_BYTES)
    contacts = list(unpack_contacts(found.contacts, asked.policy))
    assert contacts[0].id == asked.table.nearest(KEY)[0].id
    assert len(contacts) == 20
    assert len(found.records) >= 40


def test_the_asker_is_not_told_of_itself() -> None:
    asked = Asked()
    asked.table.add(Contact(ASKER, HERE))
    asked.responder.providers.add(KEY, plain_record(Address(HERE.ip, 5000), 1, asked.policy))
    found = asked.found(exchange_port=5000)
    assert found.records == []
    assert ASKER not in {each.id for each in unpack_contacts(found.contacts, asked.policy)}


def announce(token: bytes, port: int = 5000) -> Announce:
    return Announce(KEY, token, port, 1)


def test_a_provider_is_kept_at_the_address_it_is_seen_at() -> None:
    asked = Asked()
    token = asked.found().token
    assert asked.ask(announce(token)) == Stored(True)
    assert asked.ports(THERE) == [(HERE.ip, 5000)]


def test_without_the_token_for_its_address_nobody_writes() -> None:
    asked = Asked()
    token = asked.found(THERE).token
    for wrong in (b"", bytes(8), token):
        assert asked.ask(announce(wrong)) == Stored(False)
    assert asked.ports(THERE) == []


def test_without_the_token_for_its_address_nobody_takes_back() -> None:
    asked = Asked()
    asked.ask(announce(asked.found().token))
    stolen = asked.found(THERE).token
    assert asked.ask(Withdraw(KEY, stolen, 5000)) == Stored(False)
    assert asked.ask(Withdraw(KEY, stolen, 5000), THERE) == Stored(True)
    assert asked.ports(THERE) == [(HERE.ip, 5000)]
    assert asked.ask(Withdraw(KEY, asked.found().token, 5000)) == Stored(True)
    assert asked.ports(THERE) == []


def test_many_keys_are_announced_and_taken_back_at_once() -> None:
    asked = Asked()
    token, keys = asked.found().token, b"".join((KEY, OTHER_KEY))
    assert asked.ask(AnnounceMany(keys, asked.found(THERE).token, 5000, 1)) == StoredMany(0)
    assert asked.ask(AnnounceMany(keys, token, 5000, 1)) == StoredMany(2)
    assert asked.ports(THERE) == [(HERE.ip, 5000)]
    assert asked.ask(WithdrawMany(KEY, asked.found(THERE).token, 5000)) == StoredMany(0)
    assert asked.ask(WithdrawMany(KEY, token, 5000)) == StoredMany(1)
    assert asked.ports(THERE) == []
    assert len(asked.responder.providers) == 1


@pytest.mark.parametrize("kind", [AnnounceMany, WithdrawMany])
def test_keys_of_an_odd_length_are_no_message(kind: type[AnnounceMany | WithdrawMany]) -> None:
    asked = Asked()
    rest = (1,) if kind is AnnounceMany else ()
    with pytest.raises(FormatError):
        asked.ask(kind(KEY + b"k", asked.found().token, 5000, *rest))
    assert len(asked.responder.providers) == 0


def test_asking_about_a_record_does_not_make_it_last() -> None:
    asked = Asked()
    asked.ask(announce(asked.found().token))
    for _ in range(24):
        asked.clock.now += RECORD_SECONDS / 24 - 1
        assert asked.ports(THERE) == [(HERE.ip, 5000)]
    asked.clock.now += 24
    assert asked.ports(THERE) == []


def test_only_who_has_the_token_is_called_and_where_it_was_seen() -> None:
    asked = Asked()
    token = asked.found().token
    assert asked.ask(CallBack(token), THERE) == Stored(False)
    assert asked.ask(CallBack(bytes(8))) == Stored(False)
    assert asked.called == []
    assert asked.ask(CallBack(token)) == Stored(True)
    assert asked.called == [HERE]


def test_what_a_node_announced_itself_it_tells_without_an_address() -> None:
    asked = Asked()
    asked.own.add(KEY, 6000, 1)
    assert asked.ports() == [("1.1.1.1", 6000)]
    assert asked.ask(Find(KEY, 0)) == asked.ask(Find(KEY, 0))
    assert asked.ask(Find(KEY, 0)).records == []


@pytest.mark.parametrize("private", [False, True])
def test_private_addresses_announce_on_private_networks_only(private: bool) -> None:
    asked = Asked(private=private)
    lan = Address("192.168.1.5", 4848)
    assert asked.ask(announce(asked.found(lan).token), lan) == Stored(private)


def test_who_asks_too_often_gets_no_answer_for_a_while() -> None:
    asked = Asked()
    answers = [asked.ask(Ping()) for _ in range(int(BURST_REQUESTS) + 10)]
    assert answers[-10:] == [None] * 10
    assert asked.ask(Ping(), THERE) == Pong()
    asked.clock.now += 1
    assert asked.ask(Ping()) == Pong()
    assert asked.complaints.counts == {"too many requests": 10}


def test_who_has_a_network_of_ipv6_addresses_asks_no_more_than_others() -> None:
    asked = Asked(*FAMILIES[1])
    answers = [
        asked.ask(Ping(), Address(f"2001:4860:5::{number:x}", 4848))
        for number in range(int(BURST_REQUESTS) + 10)
    ]
    assert answers[-10:] == [None] * 10
    assert asked.ask(Ping(), Address("2001:4860:6::1", 4848)) == Pong()
