"""Who may put blocks here: nodes that sign, as far as the rules say so, and the neighbourhood."""

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from libernet.blocks.errors import FormatError
from libernet.net.address import region_of
from libernet.net.exchange.signing import Signature, node_key

SKEW_SECONDS = 120
"""How far the clocks of sender and recipient may differ, and how long nonces are remembered."""

MAX_NONCES = 65_536
"""Nonces remembered in all, about 12 MB: 270 requests a second for 2 * SKEW_SECONDS. With more the
busiest sender may not use the older half of its time any more."""

MAX_SENDERS = 4096
"""Nodes that no rule names whose nonces are remembered. Where anybody may put, keys cost nothing:
with more, one that is not among them is refused, so that there is always a busiest one with much to
forget."""

MAX_SENDERS_PER_REGION = MAX_SENDERS // 8
"""How many of these may be of one region (/16 of IPv4, /32 of IPv6)."""

ANYBODY = "anybody"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """Say why somebody may not put a block here."""


@dataclass(frozen=True, slots=True)
class AcceptanceRules:
    """Whose blocks are kept.

    *nodes* are public keys, *any_node* stands for all of them: their blocks are held. *networks*
    may put without a signature, as this machine itself always may: such blocks are guests.
    """

    nodes: frozenset[bytes] = frozenset()
    any_node: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, nodes: Iterable[str], networks: Iterable[str]) -> Self:
        """Return the rules as people write them: keys in hex or 'anybody', and addresses or
        networks ('192.168.1.0/24'); FormatError."""
        keys = {text: node_key(text) for text in nodes if text != ANYBODY}
        for text, key in keys.items():
            if key is None:
                raise FormatError(
                    f"accept_from: {text[:80]!r} is neither '{ANYBODY}' nor a node's key of 64 "
                    f"lower-case hex digits, as `libernet peers` shows it"
                )
        return cls(
            frozenset(key for key in keys.values() if key is not None),
            ANYBODY in nodes,
            tuple(map(_network, networks)),
        )


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sends a request: *address* as the socket has it, *origin* of the page, if any."""

    address: str
    signature: str | None = None
    origin: str | None = None


@dataclass(slots=True)
class _Memory:
    """What is known of one sender: its *nonces* with their times; older than *floor* is refused.

    *region* is where it came from first, None for one that a rule names.
    """

    region: bytes | None
    floor: int = 0
    nonces: dict[bytes, int] = field(default_factory=dict)


class Admission:
    """Decide about requests to this node, whose public key is *recipient*, each for itself.

    State: `_senders`, what those admitted lately have signed, `_nonces` of them in all, and
    `_swept`, when the old ones were forgotten last, in seconds since 1970.
    """

    def __init__(
        self, rules: AcceptanceRules, recipient: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self.recipient = recipient
        self._rules = rules
        self._clock = clock
        self._senders: dict[bytes, _Memory] = {}
        self._nonces = 0
        self._swept = 0.0

    def admit(self, visitor: Visitor, method: str, path: str) -> Signature | None:
        """Return the signature of a request that may be made, None if it may without one.

        Raises Refused. The body is still to be compared with the signature's hash of it.
        """
        if visitor.signature is None:
            self._admit_unsigned(visitor)
            return None
        try:
            signature = Signature.parse(visitor.signature)
        except FormatError as exc:
            raise Refused(str(exc)) from exc
        if not self._rules.any_node and signature.sender not in self._rules.nodes:
            raise Refused("this node keeps no blocks for yours: see accept_from")
        now = self._clock()
        if abs(signature.seconds - now) > SKEW_SECONDS:
            raise Refused(f"signed at {signature.seconds}, and here it is {now:.0f}")
        if not signature.is_of(method, path, self.recipient):
            raise Refused(f"not signed by that node for this request to {self.recipient.hex()}")
        self._remember(signature, visitor.address, now)
        return signature

    def _admit_unsigned(self, visitor: Visitor) -> None:
        if visitor.origin is not None:
            raise Refused("pages in browsers may not put blocks")
        try:
            address = ipaddress.ip_address(visitor.address)
        except ValueError:
            raise Refused("it is not known who you are") from None
        is_near = address.is_loopback or any(address in each for each in self._rules.networks)
        if not is_near:
            raise Refused("a signature is wanted from other machines")

    def _remember(self, signature: Signature, address: str, now: float) -> None:
        if now - self._swept > SKEW_SECONDS or self._nonces >= MAX_NONCES:
            self._forget(now)
        memory = self._senders.get(signature.sender)
        if memory is None:
            memory = self._senders[signature.sender] = self._new(signature.sender, address)
        if signature.nonce in memory.nonces or signature.seconds < memory.floor:
            raise Refused("this request was made already")
        memory.nonces[signature.nonce] = signature.seconds
        self._nonces += 1

    def _new(self, sender: bytes, address: str) -> _Memory:
        """Return what is known of a new sender; Refused where there are too many."""
        if sender in self._rules.nodes:
            return _Memory(None)
        region = region_of(address)
        regions = Counter(each.region for each in self._senders.values())
        if (
            regions.total() - regions[None] >= MAX_SENDERS
            or regions[region] >= MAX_SENDERS_PER_REGION
        ):
            raise Refused("too many nodes put blocks here at the moment")
        return _Memory(region)

    def _forget(self, now: float) -> None:
        """Forget what would be refused by its time alone, and more where that is not enough."""
        self._swept = now
        oldest = int(now) - SKEW_SECONDS
        for memory in self._senders.values():
            self._forget_before(memory, oldest)
        self._senders = {
            key: memory
            for key, memory in self._senders.items()
            if memory.nonces or memory.floor > oldest
        }
        if self._nonces >= MAX_NONCES:
            busiest = max(self._senders.values(), key=lambda memory: len(memory.nonces))
            times = sorted(busiest.nonces.values())
            self._forget_before(busiest, times[len(times) // 2] + 1)

    def _forget_before(self, memory: _Memory, seconds: int) -> None:
        memory.floor = max(memory.floor, seconds)
        kept = {nonce: time for nonce, time in memory.nonces.items() if time >= seconds}
        self._nonces -= len(memory.nonces) - len(kept)
        memory.nonces = kept


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise FormatError(
            f"accept_unsigned_from: {text[:80]!r} is neither an IP address nor a network"
        ) from None
