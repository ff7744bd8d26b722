"""Where a peer listens, as people write it: HOST:PORT or [IPV6]:PORT."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Self

from libernet.blocks.errors import FormatError

MAX_HOST_CHARACTERS = 253
"""Longest host name, RFC 1035 section 2.3.4 without its last dot."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 section 2.5.5.1, of old
_OF_ONE_NETWORK = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215: each network translates it otherwise
    ipaddress.IPv6Network("fec0::/10"),  # RFC 3879: site-local, of old
)

_SHAPE = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A host (name, IPv4 or IPv6 address without brackets) and a TCP port from 1 to 65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address written as 'HOST:PORT' or '[IPV6]:PORT'.

        Names come out in lower case and IPv6 addresses in their shortest form, so that equal
        addresses compare equal. Nothing is looked up. Raises FormatError.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise _odd(text, "write it as HOST:PORT, an IPv6 address as [ADDRESS]:PORT")
        port = int(shape["port"])
        if not 1 <= port <= 65535:
            raise _odd(text, "a port lies between 1 and 65535")
        if shape["v6"] is not None:
            return cls(_ipv6(shape["v6"], text), port)
        return cls(_name_or_ipv4(shape["host"], text), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def region_of(ip: str) -> bytes:
    """Return what one provider may hand out to one customer: /16 of IPv4, /32 of IPv6.

    All that is no address is of one region.
    """
    try:
        if ":" in ip:
            return socket.inet_pton(socket.AF_INET6, ip)[:4]
        return socket.inet_pton(socket.AF_INET, ip)[:2]
    except OSError:
        return b""


def is_public(ip: IPAddress) -> bool:
    """Say whether an address, or that of IPv4 for which it stands, is one host's everywhere."""
    real = dialled(ip)
    if real.version == 6 and any(real in network for network in _OF_ONE_NETWORK):
        return False
    return real.is_global


def is_private(host: str) -> bool:
    """Say whether *host* is an address that is another host's, or nobody's, on another network."""
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return False


def dialled(ip: IPAddress) -> IPAddress:
    """Return the address of IPv4 that one of IPv6 stands for, or else what is given."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64 or (ip in _COMPATIBLE and not (ip.is_loopback or ip.is_unspecified)):
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour or ip


def _ipv6(host: str, text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise _odd(text, "what stands in the brackets is no IPv6 address") from None


def _name_or_ipv4(host: str, text: str) -> str:
    labels = host.removesuffix(".").split(".")
    if len(host) > MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _odd(text, "that is no host name")
    if not labels[-1].isdigit():
        return host.lower()
    # No top-level domain is a number (RFC 3696 section 2), so this was meant as an address.
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise _odd(text, "that is no IPv4 address") from None


def _odd(text: str, reason: str) -> FormatError:
    return FormatError(f"peer address {text[:80]!r} cannot be used: {reason}")
