"""Other nodes of the DHT, and which addresses may be sent to at all."""

import functools
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kademlia.node import Node

from libernet.blocks.errors import FormatError
from libernet.net.address import dialled, is_public
from libernet.net.dht.keys import KEY_BYTES

MAX_NEIGHBOURS = 2
"""Contacts of one address block in a bucket, and among those whom a look-up relies on: who has a
whole block of addresses must not fill either with nodes of its own. Two, since one household may
well have two."""

_PORT_BYTES = 2
_CACHED_JUDGEMENTS = 8192


class Address(NamedTuple):
    """Where datagrams are received: an IP address in its shortest form, and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


# kademlia carries no types.
class Contact(Node):  # type: ignore[misc]
    """A node whose id and address are known.

    *exchange_port* (0: none) and *flags* are what it said last, *seen* when it last answered, on
    the node's clock; *failures* counts the requests in a row that it left unanswered since.
    """

    id: bytes
    ip: str
    port: int
    long_id: int

    def __init__(
        self,
        node_id: bytes,
        address: Address,
        *,
        exchange_port: int = 0,
        flags: int = 0,
        seen: float = 0.0,
    ) -> None:
        super().__init__(node_id, address.ip, address.port)
        self.address = address
        self.exchange_port = exchange_port
        self.flags = flags
        self.seen = seen
        self.failures = 0


class AddressPolicy:
    """Which addresses are sent to, of those that come from outside.

    Only one family: a dual-stack socket would hand out addresses that others cannot use. Private
    and loopback addresses only where *private_network* says that the nodes live there, or where
    a person named them; never those that are no single host's.
    """

    def __init__(self, family: socket.AddressFamily, *, private_network: bool) -> None:
        self.family = family
        self.private_network = private_network
        self._by_hand: set[str] = set()

    @property
    def family_name(self) -> str:
        """The family as people call it."""
        return "IPv6" if self.family == socket.AF_INET6 else "IPv4"

    @property
    def ip_bytes(self) -> int:
        """Length of a packed IP address of this family."""
        return 16 if self.family == socket.AF_INET6 else 4

    def trust(self, ip: str) -> None:
        """Allow *ip* from now on: a person named it."""
        self._by_hand.add(ip)

    def allows(self, ip: str) -> bool:
        """Tell whether a node at *ip* may be dialled, known, and named to others."""
        kind = _kind(ip)
        if kind is None or (":" in ip) != (self.family == socket.AF_INET6):
            return False
        return kind == "public" or self.private_network or ip in self._by_hand

    def may_name(self, ip: str, other: str) -> bool:
        """Tell whether a node at *other* may name one at *ip*, or be told of it.

        Strangers learn nothing of nodes in this one's own networks, and have nothing dialled there.
        """
        return self.private_network or self.is_public(ip) or not self.is_public(other)

    def is_public(self, ip: str) -> bool:
        """Tell whether *ip* is the same host wherever it is named."""
        return _kind(ip) == "public"

    def block(self, ip: str) -> bytes:
        """Return what one household or host can have all of: /24 of IPv4, /56 of IPv6."""
        return _block(ip)

    def asker(self, ip: str) -> str | bytes:
        """Return what requests are counted by: the address, of IPv6 the block it is in."""
        return _block(ip) if ":" in ip else ip

    def may_speak(self, host: str) -> bool:
        """Tell whether *host* is an address of this family, or a name, which may have any."""
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            return True
        return (version == 6) == (self.family == socket.AF_INET6)

    def crowd(self, ip: str) -> bytes | None:
        """Return of which address block no more than MAX_NEIGHBOURS are wanted; None for no limit.

        At private addresses all may live in one.
        """
        return None if self.private_network or _kind(ip) != "public" else _block(ip)

    def pack(self, address: Address) -> bytes:
        """Return IP address and port in 6 or 18 bytes."""
        return self.pack_ip(address.ip) + address.port.to_bytes(_PORT_BYTES)

    def unpack(self, packed: bytes) -> Address:
        """Return the address in *packed*, which need not be allowed; FormatError."""
        if len(packed) != self.ip_bytes + _PORT_BYTES:
            raise FormatError("an address of another family")
        return Address(self.unpack_ip(packed[:-_PORT_BYTES]), int.from_bytes(packed[-2:]))

    def pack_ip(self, ip: str) -> bytes:
        """Return the 4 or 16 bytes of *ip*."""
        return socket.inet_pton(self.family, ip)

    def unpack_ip(self, packed: bytes) -> str:
        """Return the text for 4 or 16 bytes; the length must have been checked."""
        return socket.inet_ntop(self.family, packed)


def pack_contacts(contacts: Iterable[Contact], policy: AddressPolicy) -> bytes:
    """Return id, IP address and port of each contact, one after the other."""
    return b"".join(each.id + policy.pack(each.address) for each in contacts)


def packed_contact_bytes(policy: AddressPolicy) -> int:
    """Return how long one packed contact is: 26 bytes with IPv4, 38 with IPv6."""
    return KEY_BYTES + policy.ip_bytes + _PORT_BYTES


def unpack_contacts(packed: bytes, policy: AddressPolicy) -> Iterator[Contact]:
    """Yield the contacts in *packed* that the policy allows; FormatError, in constant words, for
    an odd length."""
    step = packed_contact_bytes(policy)
    if len(packed) % step:
        raise FormatError("contacts that end within one")
    for start in range(0, len(packed), step):
        node_id = packed[start : start + KEY_BYTES]
        address = policy.unpack(packed[start + KEY_BYTES : start + step])
        if address.port and policy.allows(address.ip):
            yield Contact(node_id, address)


@functools.lru_cache(_CACHED_JUDGEMENTS)
def _block(ip: str) -> bytes:
    if ":" in ip:
        return socket.inet_pton(socket.AF_INET6, ip)[:7]
    return socket.inet_pton(socket.AF_INET, ip)[:3]


@functools.lru_cache(_CACHED_JUDGEMENTS)
def _kind(ip: str) -> str | None:
    """Return 'public', 'private', or None for what is no single host that can be reached."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return None
    real = dialled(parsed)
    if isinstance(real, ipaddress.IPv6Address):
        # A link-local address means nothing without its interface, which is not sent.
        hostless = real.is_link_local
    else:
        # Linux takes 0.0.0.0/8 for the local host (RFC 6890: "this network").
        hostless = real.packed[0] == 0 or real.packed[0] >= 240
    if hostless or real.is_multicast or real.is_unspecified:
        return None
    return "public" if is_public(parsed) else "private"
