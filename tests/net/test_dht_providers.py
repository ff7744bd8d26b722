"""Records that others left here: how long, how many, from whom."""

import socket

import pytest

from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.dht.own import OwnRecords
from libernet.net.dht.providers import ProviderLimits, ProviderStore
from libernet.net.dht.rates import BURST_REQUESTS, MAX_ASKERS, REQUESTS_PER_SECOND, RateLimiter
from libernet.net.dht.records import Record, pack_own_record, plain_record
from libernet.net.dht.tokens import TOKEN_SECONDS, Tokens
from libernet.net.discovery import RECORD_SECONDS
from tests.support.dht import ManualClock

KEY = bytes(20)
OTHER_KEY = b"k" * 20


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def address(number: int, port: int = 4848) -> Address:
    """Return an address in a block of its own."""
    return Address(f"8.{number >> 8}.{number & 255}.1", port)


POLICY = AddressPolicy(socket.AF_INET, private_network=False)


def record(provider: Address, flags: int = 1) -> Record:
    return plain_record(provider, flags, POLICY)


def store(clock: ManualClock, **limits: int) -> ProviderStore:
    return ProviderStore(clock, POLICY, ProviderLimits(**limits))


def ips(kept: ProviderStore, key: bytes = KEY) -> set[str]:
    return {each.address.ip for each in kept.find(key, 64)}


def test_a_record_ends_a_day_after_it_was_announced(clock: ManualClock) -> None:
    kept = store(clock)
    kept.add(KEY, record(address(1)))
    clock.now += RECORD_SECONDS - 1
    assert kept.find(KEY, 8) == [record(address(1))]
    clock.now += 1
    assert kept.find(KEY, 8) == []
    assert (len(kept), kept.keys) == (0, 0)


def test_only_another_announcement_makes_a_record_last_longer(clock: ManualClock) -> None:
    kept = store(clock)
    kept.add(KEY, record(address(1)))
    kept.add(KEY, record(address(2)))
    clock.now += RECORD_SECONDS / 2
    kept.find(KEY, 8)
    kept.add(KEY, record(address(1)))
    clock.now += RECORD_SECONDS / 2
    assert ips(kept) == {address(1).ip}


def test_swept_blocks_leave_room_for_roots_and_are_renewed_though_it_is_used(
    clock: ManualClock,
) -> None:
    kept = store(clock, total=100)
    keys = [bytes([number]) * 20 for number in range(101)]
    taken = [kept.add(key, record(address(1)), is_swept=True) for key in keys[:90]]
    assert sum(taken) == 75
    assert sum(kept.add(key, record(address(2))) for key in keys) == 25
    assert kept.add(keys[0], record(address(1)), is_swept=True)
    assert len(kept) == 100


def test_a_key_keeps_a_limited_number_of_providers_and_lets_newcomers_in(
    clock: ManualClock,
) -> None:
    kept = store(clock, per_key=64)
    for number in range(500):
        assert kept.add(KEY, record(address(number)))
    assert len(kept) == 64
    assert address(499).ip in ips(kept)


def test_an_address_block_has_a_limited_number_of_places_under_a_key(clock: ManualClock) -> None:
    kept = store(clock, per_key_and_block=4)
    outcomes = [kept.add(KEY, record(Address("8.8.8.8", 1000 + port))) for port in range(10)]
    assert outcomes == [True] * 4 + [False] * 6
    assert kept.add(KEY, record(Address("8.8.8.8", 1000)))
    assert kept.add(KEY, record(Address("8.8.9.8", 1000)))


def test_an_address_block_has_a_limited_number_of_places_in_all(clock: ManualClock) -> None:
    kept = store(clock, per_block=10)
    outcomes = [kept.add(bytes([key]) * 20, record(address(1))) for key in range(12)]
    assert outcomes == [True] * 10 + [False] * 2
    kept.discard(bytes(20), address(1))
    assert kept.add(OTHER_KEY, record(address(1)))


def test_the_store_has_a_limited_number_of_places_until_records_end(clock: ManualClock) -> None:
    kept = store(clock, total=100)
    for number in range(100):
        assert kept.add(number.to_bytes(20), record(address(number)))
    assert not kept.add(OTHER_KEY, record(address(200)))
    assert kept.add(bytes(20), record(address(0)))
    clock.now += RECORD_SECONDS
    assert kept.add(OTHER_KEY, record(address(200)))
    assert len(kept) == 1


@pytest.mark.parametrize("is_swept", [False, True])
def test_a_region_that_fills_the_store_makes_way_for_others(
    clock: ManualClock, is_swept: bool
) -> None:
    kept = store(clock, total=1000, per_key=8)
    keys = [number.to_bytes(20) for number in range(1, 5000)]
    kept.add(KEY, record(Address("9.9.9.9", 1)))
    for number, key in enumerate(keys[:2000]):
        flooder = Address(f"66.6.{number & 255}.1", 1)
        kept.add(key, record(flooder), is_swept=is_swept)
    for number in range(300):
        honest = Address(f"77.{number & 255}.{number >> 8}.1", 1)
        assert kept.add(OTHER_KEY + bytes([number >> 8, number & 255]), record(honest))
        assert len(kept) <= 1000
    assert ips(kept) == {"9.9.9.9"}
    for number in range(300):
        assert kept.find(OTHER_KEY + bytes([number >> 8, number & 255]), 1)
    assert not kept.add(keys[4000], record(Address("66.6.1.1", 2)))


def test_a_region_that_fills_a_key_makes_way_for_others(clock: ManualClock) -> None:
    kept = store(clock)
    honest = {f"77.{number}.1.1" for number in range(10)}
    for ip in honest:
        kept.add(KEY, record(Address(ip, 1)))
    for number in range(500):
        kept.add(KEY, record(Address(f"66.6.{number & 255}.{number >> 8}", 1)))
    assert honest < ips(kept)
    assert len(kept) == 64


def test_a_search_gives_as_many_as_wanted_and_none_to_themselves(clock: ManualClock) -> None:
    kept = store(clock)
    for number in range(20):
        kept.add(KEY, record(address(number)))
    assert len(kept.find(KEY, 8)) == 8
    others = kept.find(KEY, 64, but=address(3))
    assert len(others) == 19
    assert record(address(3)) not in others


def test_a_record_can_be_taken_back(clock: ManualClock) -> None:
    kept = store(clock)
    kept.add(KEY, record(address(1)))
    kept.add(KEY, record(address(2)))
    kept.discard(KEY, address(1))
    kept.discard(KEY, address(3))
    kept.discard(OTHER_KEY, address(1))
    assert ips(kept) == {address(2).ip}


def test_own_announcements_end_after_a_day_too(clock: ManualClock) -> None:
    own = OwnRecords(clock)
    own.add(KEY, 4848, 1)
    clock.now += 10
    own.add(OTHER_KEY, 4848, 1)
    clock.now += RECORD_SECONDS - 10
    assert (own.of(KEY), own.of(OTHER_KEY)) == ([], [pack_own_record(4848, 1)])
    own.discard(OTHER_KEY)
    assert len(own) == 0


def test_a_token_is_good_for_its_address_and_for_some_minutes(clock: ManualClock) -> None:
    tokens = Tokens(clock)
    token = tokens.make("8.8.8.8")
    assert not tokens.accepts(token, "8.8.4.4")
    assert not tokens.accepts(b"", "8.8.8.8")
    clock.now += TOKEN_SECONDS
    assert tokens.accepts(token, "8.8.8.8")
    clock.now += TOKEN_SECONDS
    assert not tokens.accepts(token, "8.8.8.8")


def test_a_token_is_no_good_after_a_long_rest(clock: ManualClock) -> None:
    tokens = Tokens(clock)
    token = tokens.make("8.8.8.8")
    clock.now += 10 * TOKEN_SECONDS
    assert not tokens.accepts(token, "8.8.8.8")


def test_each_address_may_ask_so_often(clock: ManualClock) -> None:
    rates = RateLimiter(clock)
    asked = [rates.allows("8.8.8.8") for _ in range(int(BURST_REQUESTS) + 5)]
    assert asked.count(True) == BURST_REQUESTS
    assert rates.allows("8.8.4.4")
    clock.now += 1
    assert [rates.allows("8.8.8.8") for _ in range(200)].count(True) == REQUESTS_PER_SECOND


def test_the_rates_of_a_limited_number_of_addresses_are_remembered(clock: ManualClock) -> None:
    rates = RateLimiter(clock)
    while rates.allows("8.8.8.8"):
        pass
    for number in range(MAX_ASKERS - 1):
        rates.allows(str(number))
    assert not rates.allows("8.8.8.8")
    for number in range(MAX_ASKERS):
        rates.allows(str(number))
    assert rates.allows("8.8.8.8")
