"""Signed records: readers and holders tell them from forged, copied and outdated ones."""

import asyncio
import socket
import time

import pytest

from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.records import SKEW_SECONDS, Record, RecordReader, RecordSigner
from libernet.net.dht.wire import AnnounceSigned, Stored, Withdraw
from libernet.net.discovery import RECORD_SECONDS, Provider
from libernet.net.identity import NodeIdentity
from tests.net.test_dht_responder import HERE, KEY, THERE, Asked
from tests.support.dht import ManualClock, network, new_keys, serving

OTHER_KEY = b"o" * 20
NOW = 1_800_000_000.0
POLICY = AddressPolicy(socket.AF_INET, private_network=False)
KEYS = new_keys()


def signed(
    *,
    keys: NodeIdentity = KEYS,
    key: bytes = KEY,
    port: int = 5000,
    now: float = NOW,
    ip: str = HERE.ip,
) -> Record:
    return RecordSigner(keys, key, port, 1, now=now).record(ip, POLICY)


def read(packed: bytes, *, now: float = NOW) -> list[Provider]:
    return list(RecordReader(KEY, POLICY, lambda: now).read([packed], THERE))


def changed(at: int) -> bytes:
    packed = bytearray(signed().packed)
    packed[at] ^= 1
    return bytes(packed)


def test_a_signed_record_says_who_is_asked_where_and_is_verified() -> None:
    [provider] = read(signed().packed)
    assert (provider.address.host, provider.address.port) == (HERE.ip, 5000)
    assert provider.peer_id == KEYS.public_key
    assert provider.is_verified


@pytest.mark.parametrize("at", range(len(signed().packed)))
def test_no_byte_of_a_signed_record_can_be_changed(at: int) -> None:
    assert [each for each in read(changed(at)) if each.is_verified] == []


@pytest.mark.parametrize(
    ("packed", "now"),
    [
        pytest.param(signed(key=OTHER_KEY).packed, NOW, id="for another key"),
        pytest.param(signed(port=0).packed, NOW, id="withdrawn"),
        pytest.param(signed().packed, NOW + RECORD_SECONDS + SKEW_SECONDS, id="ended"),
        pytest.param(signed().packed, NOW - SKEW_SECONDS - 1, id="of the future"),
        pytest.param(signed().packed[:-1], NOW, id="cut"),
        pytest.param(signed().packed[:-4], NOW, id="without an address"),
        pytest.param(signed(ip="10.0.0.1").packed, NOW, id="not to be dialled"),
    ],
)
def test_a_reader_refuses_a_signed_record_that_does_not_hold(packed: bytes, now: float) -> None:
    assert read(packed, now=now) == []


def test_a_reader_takes_a_signed_record_until_it_ends() -> None:
    assert read(signed().packed, now=NOW + RECORD_SECONDS - 1)


class Holder(Asked):
    """A responder that others leave signed records with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wall_clock.now = NOW

    def leave(self, record: Record | bytes, sender: Address = HERE, *, key: bytes = KEY) -> bool:
        packed = record.packed if isinstance(record, Record) else record
        reply = self.ask(AnnounceSigned(key, self.found(sender).token, packed), sender)
        assert isinstance(reply, Stored)
        return reply.done

    def hands_out(self) -> list[bytes]:
        return self.found(THERE).records


def test_a_holder_hands_a_signed_record_out_as_it_is() -> None:
    holder = Holder()
    assert holder.leave(signed())
    assert holder.hands_out() == [signed().packed]


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(signed(key=OTHER_KEY).packed, id="for another key"),
        pytest.param(signed(ip=THERE.ip).packed, id="for another address"),
        pytest.param(signed(now=NOW - SKEW_SECONDS - 1).packed, id="a copy of long ago"),
        pytest.param(signed(now=NOW + SKEW_SECONDS + 1).packed, id="of the future"),
        pytest.param(changed(2), id="another port"),
        pytest.param(changed(50), id="another signature"),
        pytest.param(b"\x01\x01\x12\xf0\x08\x08\x08\x08", id="not signed"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_holder_refuses_a_signed_record_that_does_not_hold(packed: bytes) -> None:
    holder = Holder()
    assert not holder.leave(packed)
    assert holder.hands_out() == []


def test_a_holder_refuses_a_signed_record_without_the_token() -> None:
    holder = Holder()
    request = AnnounceSigned(KEY, bytes(8), signed().packed)
    assert holder.ask(request) == Stored(False)
    assert holder.hands_out() == []


def test_a_newer_record_takes_the_place_of_an_older_one_and_not_the_other_way_round() -> None:
    holder = Holder()
    older, newer = signed(port=5000), signed(port=6000, now=NOW + 1)
    assert holder.leave(older)
    assert holder.leave(newer)
    assert not holder.leave(older)
    assert holder.hands_out() == [newer.packed]


def test_only_who_announced_withdraws_and_no_copy_comes_back() -> None:
    holder = Holder()
    assert holder.leave(signed())
    holder.ask(Withdraw(KEY, holder.found().token, 5000))
    assert holder.leave(signed(keys=new_keys(), port=0, now=NOW + 1))
    assert holder.hands_out() == [signed().packed]
    assert holder.leave(signed(port=0, now=NOW + 1))
    assert holder.hands_out() == []
    assert not holder.leave(signed())
    assert holder.leave(signed(now=NOW + 2))
    assert holder.hands_out() == [signed(now=NOW + 2).packed]


def test_a_holder_keeps_a_signed_record_for_a_day() -> None:
    holder = Holder()
    holder.leave(signed())
    holder.clock.now += RECORD_SECONDS - 1
    assert holder.hands_out() != []
    holder.clock.now += 1
    assert holder.hands_out() == []


def test_an_answer_carries_several_signed_records_of_different_nodes() -> None:
    holder = Holder()
    for number in range(20):
        ip = f"7.7.{number}.7"
        assert holder.leave(signed(keys=new_keys(), ip=ip), Address(ip, 4848))
    assert len(holder.hands_out()) == 5


def verified(providers: list[Provider]) -> list[tuple[int, bool]]:
    return sorted((each.address.port, each.is_verified) for each in providers)


def test_who_announces_signed_is_found_verified_by_all_until_it_withdraws() -> None:
    async def scenario() -> None:
        async with network(8) as nodes:
            assert await nodes[3].announce_signed(KEY, 1003, 1) == 7
            await nodes[4].announce(KEY, 1004, 1)
            for node in (nodes[0], *nodes[5:]):
                assert verified(await node.find(KEY, 8)) == [(1003, True), (1004, False)]
            assert verified(await nodes[3].find(KEY, 8)) == [(1004, False)]
            await nodes[3].withdraw_signed(KEY, 1003)
            for node in (nodes[0], *nodes[5:]):
                assert verified(await node.find(KEY, 8)) == [(1004, False)]

    asyncio.run(scenario())


def test_a_node_whose_clock_is_wrong_is_found_all_the_same() -> None:
    async def scenario() -> None:
        wrong = ManualClock()
        async with network(4) as nodes, serving(1009, wall_clock=wrong) as (late, _):
            assert abs(wrong.now - time.time()) > SKEW_SECONDS
            await late.greet([nodes[0].acquaintances.contacts[0].address])
            await late.fill()
            await late.announce_signed(KEY, 1009, 1)
            assert verified(await nodes[1].find(KEY, 8)) == [(1009, False)]
            await late.withdraw_signed(KEY, 1009)
            assert await nodes[1].find(KEY, 8) == []

    asyncio.run(scenario())
