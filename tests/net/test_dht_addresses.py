"""Which addresses the DHT dials, and how contacts and records are packed."""

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.net.address import PeerAddress, is_private
from libernet.net.dht.contact import (
    Address,
    AddressPolicy,
    Contact,
    pack_contacts,
    unpack_contacts,
)
from libernet.net.dht.keys import routing_key
from libernet.net.dht.records import RecordReader, pack_own_record, plain_record
from libernet.net.discovery import Provider

V4, V6 = socket.AF_INET, socket.AF_INET6
ID = bytes(range(20))
SENDER = Address("8.8.4.4", 4848)


def read(records: list[bytes]) -> list[Provider]:
    return list(RecordReader(ID, policy(), time.time).read(records, SENDER))


def policy(family: socket.AddressFamily = V4, *, private: bool = False) -> AddressPolicy:
    return AddressPolicy(family, private_network=private)


@pytest.mark.parametrize("ip", ["8.8.8.8", "93.184.216.34"])
def test_public_addresses_are_dialled(ip: str) -> None:
    assert policy().allows(ip)


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "169.254.1.1"]
)
def test_private_addresses_are_dialled_on_private_networks_only(ip: str) -> None:
    assert not policy().allows(ip)
    assert policy(private=True).allows(ip)


def test_a_private_address_that_a_person_named_is_dialled() -> None:
    chosen = policy()
    chosen.trust("192.168.1.1")
    assert chosen.allows("192.168.1.1")
    assert not chosen.allows("192.168.1.2")


@pytest.mark.parametrize(
    "ip",
    ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "host", ""],
)
def test_what_is_no_single_host_is_never_dialled(ip: str) -> None:
    everywhere = policy(private=True)
    everywhere.trust(ip)
    assert not everywhere.allows(ip)


@pytest.mark.parametrize("ip", ["::", "ff02::1", "fe80::1", "::ffff:8.8.8.8", "8.8.8.8"])
def test_ipv6_has_such_addresses_too(ip: str) -> None:
    assert not policy(V6, private=True).allows(ip)


@pytest.mark.parametrize("prefix", ["64:ff9b::{}:{}", "2002:{}:{}::1", "::{}:{}"])
def test_what_stands_for_an_address_of_ipv4_is_judged_as_that(prefix: str) -> None:
    assert policy(V6).allows(prefix.format("808", "808"))  # 8.8.8.8
    for inside in (("a01", "203"), ("c0a8", "101"), ("7f00", "1"), ("a9fe", "101")):
        assert not policy(V6).allows(prefix.format(*inside))
        assert policy(V6, private=True).allows(prefix.format(*inside))
        assert is_private(prefix.format(*inside))
    for nobody in (("e000", "1"), ("ffff", "ffff"), ("1", "203")):
        assert not policy(V6, private=True).allows(prefix.format(*nobody))


@pytest.mark.parametrize("ip", ["::1", "fec0::1", "64:ff9b:1::808:808", "fd00::1"])
def test_private_addresses_of_ipv6_are_dialled_on_private_networks_only(ip: str) -> None:
    assert not policy(V6).allows(ip)
    assert policy(V6, private=True).allows(ip)
    assert is_private(ip)


def test_families_do_not_mix() -> None:
    assert policy(V6).allows("2001:4860:4860::8888")
    assert not policy(V4).allows("2001:4860:4860::8888")


@given(st.lists(st.tuples(st.binary(min_size=20, max_size=20), st.integers(1, 65535)), max_size=9))
def test_contacts_are_unpacked_as_they_were_packed(pairs: list[tuple[bytes, int]]) -> None:
    for chosen, ip in ((policy(), "8.8.8.8"), (policy(V6), "2001:4860:4860::8888")):
        contacts = [Contact(node_id, Address(ip, port)) for node_id, port in pairs]
        read = unpack_contacts(pack_contacts(contacts, chosen), chosen)
        assert [(each.id, each.address) for each in read] == [
            (each.id, each.address) for each in contacts
        ]


def test_contacts_that_may_not_be_dialled_are_skipped() -> None:
    wild = policy(private=True)
    contacts = [Contact(ID, Address(ip, 4848)) for ip in ("10.0.0.1", "8.8.8.8", "127.0.0.1")]
    packed = pack_contacts(contacts, wild) + ID + bytes((8, 8, 4, 4, 0, 0))
    assert [each.ip for each in unpack_contacts(packed, policy())] == ["8.8.8.8"]


@given(st.binary(max_size=1100))
def test_any_bytes_of_contacts_give_contacts_that_can_be_sent_to_or_a_format_error(
    packed: bytes,
) -> None:
    try:
        contacts = list(unpack_contacts(packed, policy()))
    except FormatError:
        assert len(packed) % 26
    else:
        assert all(0 < each.port < 65536 and policy().allows(each.ip) for each in contacts)


@pytest.mark.parametrize("length", [1, 27, 1001])
def test_what_is_wrong_with_contacts_is_said_in_constant_words(length: int) -> None:
    """Datagrams are counted by them: there must not be as many as a stranger likes."""
    with pytest.raises(FormatError, match=r"^contacts that end within one$"):
        list(unpack_contacts(bytes(length), policy()))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_records_give_providers_that_can_be_dialled(records: list[bytes]) -> None:
    for provider in read(records):
        assert PeerAddress.parse(str(provider.address)) == provider.address
        assert policy().allows(provider.address.host)


def test_a_record_says_where_and_how_a_provider_is_asked() -> None:
    record = plain_record(Address("8.8.8.8", 4849), 5, policy())
    [provider] = read([record.packed])
    assert provider == Provider(PeerAddress("8.8.8.8", 4849), flags=5, version=1)


def test_a_record_without_an_address_is_about_its_sender() -> None:
    [provider] = read([pack_own_record(4849, 1)])
    assert provider.address == PeerAddress(SENDER.ip, 4849)


def test_records_that_cannot_be_dialled_are_skipped() -> None:
    wild = policy(private=True)
    records = [
        plain_record(Address("8.8.8.8", 0), 1, wild).packed,
        plain_record(Address("10.0.0.1", 4848), 1, wild).packed,
        pack_own_record(0, 1),
        plain_record(Address("8.8.8.8", 4848), 1, wild).packed[:-1],
    ]
    assert (read(records)) == []


def test_records_of_later_versions_are_skipped() -> None:
    records = [b"\x02" + bytes(60), pack_own_record(4849, 1), b"\x02\x01"]
    assert len(read(records)) == 1


def test_the_same_identifier_has_another_key_in_each_namespace() -> None:
    assert routing_key(b"sha256:", ID) != routing_key(b"sha384:", ID)
    assert len(routing_key(b"name:", b"of any length" * 100)) == 20
    # Pinned: whoever announces under another key is not found by nodes of today.
    assert routing_key(b"sha256:", bytes(32)).hex() == "e637fa241d466583138e8a23d0aa76bfa1a35bc5"
