"""Datagrams: every value comes back, nothing else gets through, all stay short."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.net.dht.wire import (
    FIND_REQUEST_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_KEYS,
    PREFIX,
    VERSION,
    Announce,
    AnnounceMany,
    AnnounceSigned,
    CallBack,
    Envelope,
    Find,
    Found,
    Hello,
    Ping,
    Pong,
    Proof,
    Stored,
    StoredMany,
    Withdraw,
    WithdrawMany,
    decode,
    encode,
)

IDS = st.binary(min_size=20, max_size=20)
PORTS = st.integers(1, 65535)
FLAGS = st.integers(0, 255)
TOKENS = st.binary(max_size=32)
PACKED_ADDRESSES = st.binary(min_size=6, max_size=18)
KEYS = st.lists(IDS, max_size=MAX_KEYS).map(b"".join)
BODIES = st.one_of(
    st.just(Ping()),
    st.builds(Find, IDS, st.integers(0, 64)),
    st.builds(Announce, IDS, TOKENS, PORTS, FLAGS),
    st.builds(Withdraw, IDS, TOKENS, PORTS),
    st.just(Pong()),
    st.builds(
        Found, st.binary(max_size=500), st.lists(st.binary(max_size=22), max_size=20), TOKENS
    ),
    st.builds(Stored, st.booleans()),
    st.builds(CallBack, TOKENS),
    st.builds(AnnounceSigned, IDS, TOKENS, st.binary(max_size=256)),
    st.builds(AnnounceMany, KEYS, TOKENS, PORTS, FLAGS),
    st.builds(WithdrawMany, KEYS, TOKENS, PORTS),
    st.builds(StoredMany, st.integers(0, MAX_KEYS)),
    st.builds(Hello, PACKED_ADDRESSES),
    st.builds(
        Proof,
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=64, max_size=64),
        PACKED_ADDRESSES,
    ),
)
ENVELOPES = st.builds(
    Envelope, st.binary(min_size=8, max_size=8), IDS, FLAGS, st.integers(0, 65535), BODIES
)
ID = bytes(range(20))


def raw(*body: object, rpc_id: object = b"12345678", sender: object = ID) -> bytes:
    return PREFIX + msgspec.msgpack.encode([rpc_id, sender, 1, 4848, list(body)])


@given(ENVELOPES)
@settings(deadline=None)
def test_each_message_is_read_as_it_was_written(envelope: Envelope) -> None:
    read = decode(encode(envelope))
    if isinstance(read.body, Find | Hello):
        read = msgspec.structs.replace(read, body=msgspec.structs.replace(read.body, padding=b""))
    assert read == envelope


@given(IDS, st.integers(0, 64), st.integers(0, 65535))
def test_finds_are_padded_to_one_length(key: bytes, want: int, port: int) -> None:
    assert len(encode(Envelope(b"12345678", key, 1, port, Find(key, want)))) == FIND_REQUEST_BYTES


def test_a_datagram_full_of_keys_is_short_enough() -> None:
    keys = AnnounceMany(b"k" * MAX_KEYS * 20, bytes(32), 65535, 255)
    assert len(encode(Envelope(bytes(8), ID, 255, 65535, keys))) <= MAX_DATAGRAM_BYTES
    with pytest.raises(FormatError):
        decode(raw(8, bytes(20 * MAX_KEYS + 20), bytes(8), 4848, 1))


def test_elements_added_by_a_later_version_are_ignored() -> None:
    grown = [b"12345678", ID, 1, 4848, [2, ID, 8, b"", "new"], {"newer": [1, 2]}]
    envelope = decode(PREFIX + msgspec.msgpack.encode(grown))
    assert envelope.body == Find(ID, 8)


def test_a_datagram_of_another_version_is_told_from_a_foreign_one() -> None:
    datagram = raw(1)
    with pytest.raises(UnknownVersion):
        decode(b"LN" + bytes((VERSION + 1,)) + datagram[3:])
    with pytest.raises(FormatError, match="not the protocol"):
        decode(b"\x00" + datagram)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        PREFIX,
        raw(),
        raw(99),
        raw("find", ID, 8),
        raw(2),
        raw(2, ID[:19], 8),
        raw(2, ID + b"x", 8),
        raw(2, "x" * 20, 8),
        raw(2, 7, 8),
        raw(2, ID, -1),
        raw(2, ID, 65),
        raw(2, ID, 8.0),
        raw(2, ID, 8, None),
        raw(3, ID, b"token", 70000, 1),
        raw(3, ID, b"token", 0, 1),
        raw(3, ID, b"token", -1, 1),
        raw(3, ID, b"token", "4848", 1),
        raw(3, ID, b"t" * 33, 4848, 1),
        raw(3, ID, b"token", 4848, 256),
        raw(66, [[ID, "127.0.0.1", 70000]], [], b""),
        raw(66, b"", {"value": 1}, b""),
        raw(66, b"", [b""] * 65, b""),
        raw(66, b"", [b"r" * 257], b""),
        raw(67, 1),
        raw(5),
        raw(5, b"short"),
        raw(5, bytes(19)),
        raw(69, bytes(31), bytes(64), bytes(6)),
        raw(69, bytes(32), bytes(63), bytes(6)),
        raw(69, bytes(32), bytes(64), "10.0.0.1"),
        raw(1, rpc_id=b"1234567"),
        raw(1, rpc_id=None),
        raw(1, sender=ID[1:]),
        raw(1) + b"\x00",
        raw(2, ID, 8, b"p" * MAX_DATAGRAM_BYTES),
        PREFIX + b"\x91" * 1190,
        PREFIX + msgspec.msgpack.encode([b"12345678", ID, 1, 4848])[1:] + b"\x91" * 1100,
        PREFIX + b"\xdd\xff\xff\xff\xff" + b"\xc0" * 20,
        PREFIX + b"\xdf\xff\xff\xff\xff",
        PREFIX + b"\xc6\xff\xff\xff\xff",
        PREFIX + b"\xa1\xff",
        PREFIX + b"\xc1",
    ],
)
def test_what_is_no_message_is_refused(datagram: bytes) -> None:
    with pytest.raises(FormatError):
        decode(datagram)


@given(st.binary(max_size=1300))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_refused_and_nothing_worse(noise: bytes) -> None:
    for datagram in (noise, PREFIX + noise):
        with pytest.raises(FormatError):
            decode(datagram)


@given(ENVELOPES, st.data())
@settings(deadline=None, max_examples=300)
def test_a_changed_message_is_read_or_refused_and_nothing_worse(
    envelope: Envelope, data: st.DataObject
) -> None:
    datagram = bytearray(encode(envelope))
    for _ in range(data.draw(st.integers(1, 4))):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(datagram[: data.draw(st.integers(0, len(datagram)))])
    for changed in (bytes(datagram), cut):
        with contextlib.suppress(FormatError):
            decode(changed)
