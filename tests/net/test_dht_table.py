"""The table of contacts: exact, fair to those that live, and quiet."""

import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.net.dht.contact import MAX_NEIGHBOURS, Address, AddressPolicy, Contact
from libernet.net.dht.table import (
    BUCKET_CONTACTS,
    LONELY_SECONDS,
    MAX_FAILURES,
    ContactTable,
)
from tests.support.dht import ManualClock

HERE, THERE = Address("10.0.0.1", 4848), Address("10.0.0.2", 4848)
IDS = st.binary(min_size=20, max_size=20)
NEAR_IDS = st.builds(lambda depth, rest: bytes(depth) + rest[depth:], st.integers(0, 19), IDS)
OWN = bytes(20)
PUBLIC = AddressPolicy(socket.AF_INET, private_network=False)
PRIVATE = AddressPolicy(socket.AF_INET, private_network=True)


def contact(node_id: bytes, port: int = 4848, *, seen: float = 0.0) -> Contact:
    return Contact(node_id, Address("10.0.0.1", port), seen=seen)


def numbered(number: int) -> Contact:
    """Return a contact in the far half of the space, where buckets do not split."""
    return contact(b"\xff" + number.to_bytes(19), port=number + 1)


def table_of(contacts: list[Contact]) -> ContactTable:
    table = ContactTable(contact(OWN), PRIVATE)
    for each in contacts:
        table.add(each)
    return table


@given(st.lists(st.one_of(IDS, NEAR_IDS), max_size=150), IDS)
@settings(deadline=None)
def test_the_nearest_contacts_are_exactly_the_nearest(ids: list[bytes], key: bytes) -> None:
    table = table_of([contact(each) for each in ids if each != OWN])
    target = int.from_bytes(key)
    by_distance = sorted(table, key=lambda each: int.from_bytes(each.id) ^ target)
    assert table.nearest(key) == by_distance[:BUCKET_CONTACTS]
    assert (
        table.find_neighbors(contact(key), 5)
        == [each for each in by_distance if each.id != key][:5]
    )


@given(st.lists(st.one_of(IDS, NEAR_IDS), max_size=150, unique=True))
@settings(deadline=None)
def test_whom_the_table_wants_it_keeps_and_then_wants_no_more(ids: list[bytes]) -> None:
    table = ContactTable(contact(OWN), PRIVATE)
    for node_id in ids:
        if table.wants(node_id, HERE):
            table.add(contact(node_id))
            assert not table.wants(node_id, HERE)
            assert table.wants(node_id, THERE)
    assert not table.wants(OWN, HERE)


def test_nodes_at_the_very_ends_of_the_space_have_their_place() -> None:
    ends = [contact(b"\xff" * 20), contact(b"\x7f" + b"\xff" * 19), contact(b"\x80" + bytes(19))]
    table = table_of([numbered(number) for number in range(40)] + ends)
    assert all(not table.wants(each.id, each.address) for each in ends)
    assert table.get(ends[1].id) is ends[1]


def test_a_full_bucket_names_whom_it_saw_longest_ago_and_keeps_the_newcomer_waiting() -> None:
    contacts = [numbered(number) for number in range(BUCKET_CONTACTS)]
    table = table_of(contacts)
    table.add(contacts[0])
    newcomer = numbered(99)
    assert table.add(newcomer) is contacts[1]
    assert newcomer not in list(table)
    for _ in range(MAX_FAILURES):
        table.fail(contacts[1])
    assert newcomer in list(table)
    assert contacts[1] not in list(table)


def test_one_lost_answer_does_not_drop_a_contact_but_others_come_first() -> None:
    weak, strong = numbered(1), numbered(2)
    table = table_of([weak, strong])
    table.fail(weak)
    assert table.nearest(weak.id) == [strong, weak]
    table.add(numbered(1))
    assert [each.id for each in table.nearest(weak.id)] == [weak.id, strong.id]


def test_a_node_cannot_take_the_place_of_another_by_using_its_id() -> None:
    victim = contact(b"\xaa" * 20, port=1)
    thief = contact(b"\xaa" * 20, port=2)
    table = table_of([victim])
    assert table.add(thief) is victim
    assert table.get(victim.id) is victim
    table.fail(victim)
    assert table.add(thief) is None
    assert table.get(victim.id) is thief


def test_the_table_stays_small_however_many_nodes_come() -> None:
    ids = [number.to_bytes(2) + bytes(18) for number in range(1, 20_000)]
    assert len(table_of([contact(each) for each in ids])) < 20 * BUCKET_CONTACTS


def at(ip: str, number: int) -> Contact:
    """Return a contact of the far half of the space."""
    return Contact(b"\xff" + number.to_bytes(19), Address(ip, 4848))


def test_a_bucket_holds_two_contacts_of_one_address_block_those_in_waiting_counted() -> None:
    table = ContactTable(contact(OWN), PUBLIC)
    for number in range(BUCKET_CONTACTS - 1):
        table.add(at(f"8.8.{number}.1", number))
    for number in range(100, 105):
        table.add(at(f"9.9.9.{number}", number))
    assert sum(each.ip.startswith("9.9.9.") for each in table) == 1
    for number in range(BUCKET_CONTACTS - 1):
        table.remove_contact(at(f"8.8.{number}.1", number))
    assert sum(each.ip.startswith("9.9.9.") for each in table) == MAX_NEIGHBOURS
    assert table.wants(at("9.9.8.1", 200).id, Address("9.9.8.1", 4848))


def test_neighbours_at_private_addresses_are_all_known() -> None:
    for policy, ip in ((PRIVATE, "8.8.8.8"), (PUBLIC, "192.168.1.5")):
        policy.trust(ip)
        table = ContactTable(contact(OWN), policy)
        for number in range(10):
            table.add(at(ip, number))
        assert len(table) == 10


def test_a_bucket_is_lonely_an_hour_after_the_last_lookup_in_it_by_the_nodes_own_clock() -> None:
    clock = ManualClock()
    table = ContactTable(contact(OWN), PUBLIC, clock=clock)
    for number in range(2 * BUCKET_CONTACTS):
        table.add(numbered(number))
    assert len(table.buckets) > 1
    clock.now += LONELY_SECONDS
    table.touch(OWN)
    assert table.lonely_buckets() == []
    clock.now += 1
    assert len(table.lonely_buckets()) == len(table.buckets) - 1
