import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.errors import FormatError
from libernet.net.address import PeerAddress

_labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_hosts = st.one_of(
    st.lists(_labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses().map(str),
)
_addresses = st.builds(PeerAddress, _hosts, st.integers(1, 65535))


@settings(deadline=None)
@given(_addresses)
def test_a_written_address_is_read_back_as_the_same(address: PeerAddress) -> None:
    assert PeerAddress.parse(str(address)) == address


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"\[?[0-9a-f:.]*\]?:[0-9]*", fullmatch=True))
def test_any_text_is_an_address_or_a_format_error(text: str) -> None:
    try:
        address = PeerAddress.parse(text)
    except FormatError:
        return
    assert PeerAddress.parse(str(address)) == address
    assert 1 <= address.port <= 65535


def test_names_lose_their_capitals_and_ipv6_addresses_their_zeros() -> None:
    assert PeerAddress.parse("Node.Example:4848") == PeerAddress("node.example", 4848)
    assert PeerAddress.parse("[2001:0DB8::0001]:1") == PeerAddress("2001:db8::1", 1)
    assert str(PeerAddress(str(ipaddress.IPv6Address("::1")), 80)) == "[::1]:80"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":4848",
        "host:0",
        "host:65536",
        "host:+1",
        "host:٣",
        "host:1 ",
        " host:1",
        "::1:4848",
        "[::1]",
        "[host]:1",
        "[127.0.0.1]:1",
        "1.2.3:4",
        "256.1.1.1:1",
        "a..b:1",
        "-a:1",
        "a_:\n1",
        "user@host:1",
        "http://host:1",
        "a" * 64 + ":1",
        ".".join(["abcdefg"] * 32) + ":1",
    ],
)
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="cannot be used"):
        PeerAddress.parse(text)
