"""Provider records as they cross the wire.

A record is: version (1 byte), then for version 1 the protocol flags (1 byte), the port (2 bytes,
big-endian, not 0) and the IP address (4 or 16 bytes; none when the sender speaks of itself).
Readers skip records of other versions.
"""

from collections.abc import Iterable, Iterator

from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.discovery import Provider

RECORD_VERSION = 1
MAX_FLAGS = 255

_HEAD_BYTES = 4


def pack_record(address: Address, flags: int, policy: AddressPolicy) -> bytes:
    """Return the record of a provider that listens at *address*."""
    return pack_own_record(address.port, flags) + policy.pack_ip(address.ip)


def pack_own_record(port: int, flags: int) -> bytes:
    """Return the record of the sender itself, whose IP address the receiver sees."""
    return bytes((RECORD_VERSION, flags)) + port.to_bytes(2)


def unpack_records(
    records: Iterable[bytes], sender: Address, policy: AddressPolicy
) -> Iterator[Provider]:
    """Yield the providers in *records*, without those that cannot be understood or dialled."""
    for record in records:
        if len(record) < _HEAD_BYTES or record[0] != RECORD_VERSION:
            continue
        packed, port = record[_HEAD_BYTES:], int.from_bytes(record[2:4])
        if packed and len(packed) != policy.ip_bytes:
            continue
        ip = policy.unpack_ip(packed) if packed else sender.ip
        if port and policy.allows(ip):
            yield Provider(PeerAddress(ip, port), flags=record[1])
