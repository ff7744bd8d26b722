"""The table of contacts: exact, fair to those that live, and quiet."""

from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.net.dht.contact import Address, Contact
from libernet.net.dht.table import BUCKET_CONTACTS, MAX_FAILURES, ContactTable

IDS = st.binary(min_size=20, max_size=20)
NEAR_IDS = st.builds(lambda depth, rest: bytes(depth) + rest[depth:], st.integers(0, 19), IDS)
OWN = bytes(20)


def contact(node_id: bytes, port: int = 4848, *, seen: float = 0.0) -> Contact:
    return Contact(node_id, Address("10.0.0.1", port), seen=seen)


def numbered(number: int) -> Contact:
    """Return a contact in the far half of the space, where buckets do not split."""
    return contact(b"\xff" + number.to_bytes(19), port=number + 1)


def table_of(contacts: list[Contact]) -> ContactTable:
    table = ContactTable(contact(OWN))
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
    table = ContactTable(contact(OWN))
    for node_id in ids:
        if table.wants(node_id):
            table.add(contact(node_id))
            assert not table.wants(node_id)
    assert not table.wants(OWN)


def test_nodes_at_the_very_ends_of_the_space_have_their_place() -> None:
    ends = [contact(b"\xff" * 20), contact(b"\x7f" + b"\xff" * 19), contact(b"\x80" + bytes(19))]
    table = table_of([numbered(number) for number in range(40)] + ends)
    assert all(not table.wants(each.id) for each in ends)
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
