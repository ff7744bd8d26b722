"""Provider records: what a node leaves with others about where it is asked for something.

A record begins with its version (1 byte), protocol flags (1) and port (2, big-endian). In version
1, for blocks and for what other programs announce, the IP address follows (4 or 16 bytes); none
when the sender speaks of itself. Version 2, for roots and shares, is signed: there follow the time
of signing (6 bytes, ms since 1970 UTC), the provider's public key (32), the signature (64) and
the address. Its port 0 stands for a withdrawal. Readers skip records of other versions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from libernet.net.address import PeerAddress
from libernet.net.dht.contact import Address, AddressPolicy
from libernet.net.discovery import RECORD_SECONDS, Provider
from libernet.net.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, NodeIdentity, is_signed

MAX_FLAGS = 255

SKEW_SECONDS = 600.0
"""So much may the clocks of two machines differ. A record is handed in right after it was signed,
so an older one is somebody's copy."""

_PLAIN, _SIGNED = 1, 2
_HEAD_BYTES = 4
_TIME_BYTES = 6
_KEY_START = _HEAD_BYTES + _TIME_BYTES
_SIGNATURE_START = _KEY_START + PUBLIC_KEY_BYTES
_SIGNED_BYTES = _SIGNATURE_START + SIGNATURE_BYTES
_KIND = b"libernet dht record 2\0"


@dataclass(frozen=True, slots=True)
class Record:
    """Where a provider is asked and how: *packed* as it crosses the wire, address included.

    *public_key* and *signed_ms* are those of a signed one, whose signature was checked.
    """

    packed: bytes
    address: Address
    flags: int
    public_key: bytes | None = None
    signed_ms: int = 0

    @property
    def is_withdrawal(self) -> bool:
        """Say whether it takes back the earlier ones of its key."""
        return not self.address.port

    def provider(self) -> Provider:
        """Return who is to be asked."""
        return Provider(
            PeerAddress(*self.address),
            flags=self.flags,
            version=_SIGNED if self.public_key else _PLAIN,
            peer_id=self.public_key,
        )


def plain_record(address: Address, flags: int, policy: AddressPolicy) -> Record:
    """Return the record of a provider that listens at *address*."""
    packed = pack_own_record(address.port, flags) + policy.pack_ip(address.ip)
    return Record(packed, address, flags)


def pack_own_record(port: int, flags: int) -> bytes:
    """Return the record of the sender itself, whose IP address the receiver sees."""
    return bytes((_PLAIN, flags)) + port.to_bytes(2)


class RecordSigner:
    """Signs one announcement of *port* under the routing key *key*, or its withdrawal with port 0.

    State: _records, by IP address: a node may be seen at several, and each takes 50 us.
    """

    def __init__(
        self, keys: NodeIdentity, key: bytes, port: int, flags: int, *, now: float
    ) -> None:
        self._keys = keys
        self._key = key
        self._port = port
        self._flags = flags
        self._signed_ms = int(now * 1000)
        self._records: dict[str, Record] = {}

    def record(self, ip: str, policy: AddressPolicy) -> Record:
        """Return the record of this node at *ip*."""
        if ip not in self._records:
            self._records[ip] = self._sign(Address(ip, self._port), policy.pack_ip(ip))
        return self._records[ip]

    def _sign(self, address: Address, packed_ip: bytes) -> Record:
        head = bytes((_SIGNED, self._flags)) + address.port.to_bytes(2)
        head += self._signed_ms.to_bytes(_TIME_BYTES)
        public_key = self._keys.public_key
        signature = self._keys.sign(_message(self._key, head, packed_ip))
        packed = head + public_key + signature + packed_ip
        return Record(packed, address, self._flags, public_key, self._signed_ms)


def read_record(
    packed: bytes, key: bytes, sender: Address, policy: AddressPolicy, now: float
) -> Record | None:
    """Return the record under *key* that *sender* hands out, None if there is none that holds.

    One that is signed must be so for this key and this address, and less than RECORD_SECONDS
    before *now*, in seconds since 1970; that takes about 120 us.
    """
    if len(packed) < _HEAD_BYTES:
        return None
    flags, port = packed[1], int.from_bytes(packed[2:_HEAD_BYTES])
    match packed[0]:
        case 1:  # _PLAIN
            packed_ip, public_key, signed_ms = packed[_HEAD_BYTES:] or None, None, 0
        case 2:  # _SIGNED
            packed_ip = packed[_SIGNED_BYTES:]
            public_key = packed[_KEY_START:_SIGNATURE_START]
            signed_ms = int.from_bytes(packed[_HEAD_BYTES:_KEY_START])
        case _:
            return None
    if packed_ip is not None and len(packed_ip) != policy.ip_bytes:
        return None
    ip = sender.ip if packed_ip is None else policy.unpack_ip(packed_ip)
    if not policy.allows(ip) or not policy.may_name(ip, sender.ip):
        return None
    record = Record(packed, Address(ip, port), flags, public_key, signed_ms)
    if public_key is None:
        return record if port else None
    age = now - signed_ms / 1000
    if not -SKEW_SECONDS <= age < RECORD_SECONDS + SKEW_SECONDS:
        return None
    signature = packed[_SIGNATURE_START:_SIGNED_BYTES]
    message = _message(key, packed[:_KEY_START], packed[_SIGNED_BYTES:])
    return record if is_signed(public_key, signature, message) else None


class RecordReader:
    """Reads the records of one key that many nodes hand out, and checks each signature once.

    What a look-up takes in bounds it: at most ten signed records fit into an answer.
    State: _checked, what each signed record says.
    """

    def __init__(self, key: bytes, policy: AddressPolicy, wall_clock: Callable[[], float]) -> None:
        self._key = key
        self._policy = policy
        self._wall_clock = wall_clock
        self._checked: dict[bytes, Record | None] = {}

    def read(self, records: Iterable[bytes], sender: Address) -> Iterator[Provider]:
        """Yield the providers in *records*, without what does not hold or may not be dialled."""
        for packed in records:
            record = self._read(packed, sender)
            if record is not None and not record.is_withdrawal:
                yield record.provider()

    def _read(self, packed: bytes, sender: Address) -> Record | None:
        now = self._wall_clock()
        if packed[:1] != bytes((_SIGNED,)):
            return read_record(packed, self._key, sender, self._policy, now)
        if packed not in self._checked:
            self._checked[packed] = read_record(packed, self._key, sender, self._policy, now)
        return self._checked[packed]


def _message(key: bytes, head: bytes, packed_ip: bytes) -> bytes:
    """Return what is signed; all but its end has a fixed length."""
    return _KIND + key + head + packed_ip
