"""The peers that this node asks for blocks: how each did so far, and whom to ask first."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    LibernetError,
    PeerTimeout,
    PeerUnreachable,
    RemoteProtocolError,
)
from libernet.net.address import PeerAddress
from libernet.net.exchange.client import ExchangeClient
from libernet.net.sparing_log import SparingLog
from libernet.net.standing import Standing
from libernet.net.traffic import Traffic

_log = logging.getLogger(__name__)

_MAX_PEERS = 256
_COOL_DOWN_SECONDS = {
    # Somebody on the path may be the liar, so not for ever.
    BlockCorrupt: 300.0,
    RemoteProtocolError: 60.0,
}
_FIRST_REST_SECONDS = 1.0
"""For a peer that cannot be reached or is late: it may be starting anew. Doubled each time."""

_LAST_REST_SECONDS = 60.0

_KINDS: dict[type[Exception], str] = {
    BlockCorrupt: "wrong_bytes",
    RemoteProtocolError: "protocol",
    PeerTimeout: "late",
    PeerUnreachable: "unreachable",
}
_OTHER_KIND = "other"


@dataclass(slots=True)
class Peer:
    """One peer, and what is known of it.

    State
      client      its connections
      standing    how fast it answers, and how many questions it has now
      given       the blocks that it gave
      earlier     blocks that count beside: what is remembered of earlier starts
      failed      times that it did not do what it should
      failures    how many of these came since it delivered last, those of one moment as one
      is_late     it let a reader wait, and has not delivered since
      resting     not asked before this moment, on trio's clock
      last_error  the newest reason for a rest
    """

    address: PeerAddress
    client: ExchangeClient
    standing: Standing = field(default_factory=Standing)
    given: Traffic = field(default_factory=Traffic)
    earlier: int = 0
    failed: int = 0
    failures: int = 0
    is_late: bool = False
    resting: float = -math.inf
    last_error: str = ""

    @property
    def delivered(self) -> int:
        """How many blocks it gave."""
        return self.given.blocks

    @property
    def merit(self) -> int:
        """How many blocks speak for it, now or from earlier starts."""
        return self.delivered + self.earlier

    @property
    def is_resting(self) -> bool:
        """Say whether it shall not be asked now."""
        return self.resting > trio.current_time()

    @property
    def is_proven(self) -> bool:
        """Say whether it gave blocks, and has been in time since."""
        return self.delivered > 0 and not self.is_failing

    @property
    def is_failing(self) -> bool:
        """Say whether it failed or was late, and has not delivered since."""
        return self.failures > 0 or self.is_late

    def cost(self) -> tuple[bool, float]:
        """Return what to compare peers by that may be asked next, the least being the best.

        The seconds that one more block takes, more for a stranger: it may have nothing.
        """
        return self.is_failing, self.standing.expected_seconds() * (1 + 1 / (1 + self.merit))


class Peers:
    """All peers asked lately, bounded.

    State
      given             the blocks that all gave, also those who were forgotten
      failures_by_kind  how often they did not do what they should, by what it was
      _peers            by address, the one thought of longest ago first
    """

    def __init__(
        self,
        connect: Callable[[PeerAddress], ExchangeClient] = ExchangeClient,
        said: SparingLog | None = None,
        unreachable: Callable[[PeerAddress, int], None] = lambda address, failures: None,
    ) -> None:
        """Tell *unreachable* of each failure to reach a peer, and how many came in a row."""
        self.given = Traffic()
        self.failures_by_kind = Counter(dict.fromkeys([*_KINDS.values(), _OTHER_KIND], 0))
        self._connect = connect
        self._said = said or SparingLog(_log)
        self._unreachable = unreachable
        self._peers: dict[PeerAddress, Peer] = {}

    def peer(self, address: PeerAddress) -> Peer:
        """Return the peer at *address*; nothing is sent to it yet."""
        peer = self._peers.pop(address, None) or Peer(address, self._connect(address))
        self._peers[address] = peer
        if len(self._peers) > _MAX_PEERS:
            oldest = next(iter(self._peers))
            self._peers.pop(oldest).client.close()
        return peer

    def by_merit(self, addresses: Iterable[PeerAddress]) -> list[Peer]:
        """Return the peers at these addresses, the one who will give a block soonest first."""
        return sorted((self.peer(address) for address in dict.fromkeys(addresses)), key=Peer.cost)

    def delivered(self, peer: Peer, count: int = 1, size_bytes: int = 0) -> None:
        """Note that a peer gave blocks, of so many bytes together."""
        for traffic in (peer.given, self.given):
            traffic.add(count, size_bytes)
        if count:
            peer.failures = 0
            peer.is_late = False

    def late(self, peer: Peer) -> None:
        """Note that a peer let readers wait: others are asked before it until it delivers."""
        peer.is_late = True

    def failed(self, peer: Peer, error: LibernetError) -> None:
        """Let a peer rest that did not do what it should, and say so in the log."""
        peer.failed += 1
        kind = _KINDS.get(type(error), _OTHER_KIND)
        self.failures_by_kind[kind] += 1
        peer.standing.failed()
        peer.last_error = str(error)
        seconds = _COOL_DOWN_SECONDS.get(type(error))
        if seconds is None:
            if peer.is_resting:
                return  # the questions under way at one time fail together
            seconds = min(_FIRST_REST_SECONDS * 2.0**peer.failures, _LAST_REST_SECONDS)
        peer.failures += 1
        if isinstance(error, PeerUnreachable):
            self._unreachable(peer.address, peer.failures)
        peer.resting = max(peer.resting, trio.current_time() + seconds)
        address = str(peer.address)
        self._said.say(kind, address, f"peer {address} is not asked for {seconds:g} s: {error}")

    def merits(self) -> list[tuple[PeerAddress, int]]:
        """Return those for whom blocks speak, with how many, most first."""
        found = [(peer.address, peer.merit) for peer in self._peers.values() if peer.merit]
        return sorted(found, key=lambda each: -each[1])

    def status(self) -> list[dict[str, Any]]:
        """Return what a person may want to know of each, as plain values for JSON."""
        now = trio.current_time()
        return [
            {
                "address": str(peer.address),
                "delivered": peer.delivered,
                "bytes": peer.given.bytes,
                "bytes_per_second": round(peer.given.bytes_per_second()),
                "round_trip_seconds": peer.client.round_trip_seconds,
                "failed": peer.failed,
                "rests_seconds": max(0.0, round(peer.resting - now, 1)),
                "last_error": peer.last_error,
            }
            for peer in self._peers.values()
        ]

    def close_idle(self) -> None:
        """Close connections that were not used for long: each holds a buffer."""
        for peer in self._peers.values():
            peer.client.close_idle()

    def close(self) -> None:
        """Close all connections, and forget whose they were."""
        for peer in self._peers.values():
            peer.client.close()
        self._peers.clear()
