"""The peers that this node asks for blocks: how each did so far, and whom to ask first."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

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

_log = logging.getLogger(__name__)

_MAX_PEERS = 256
_COOL_DOWN_SECONDS = {
    # Somebody on the path may be the liar, so not for ever.
    BlockCorrupt: 300.0,
    RemoteProtocolError: 60.0,
    PeerUnreachable: 15.0,
    PeerTimeout: 15.0,
}
_OTHER_COOL_DOWN_SECONDS = 15.0


@dataclass(slots=True)
class Peer:
    """One peer, and what is known of it.

    State
      client      its connections
      delivered   blocks that it gave
      failed      times that it did not do what it should
      resting     not asked before this moment, on trio's clock
      last_error  the newest reason for a rest
    """

    address: PeerAddress
    client: ExchangeClient
    delivered: int = 0
    failed: int = 0
    resting: float = 0.0
    last_error: str = ""
    heard: float = field(default_factory=trio.current_time)


class Peers:
    """All peers asked lately, bounded.

    State: _peers, by address, the one heard of longest ago first.
    """

    def __init__(self, connect: Callable[[PeerAddress], ExchangeClient] = ExchangeClient) -> None:
        self._connect = connect
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
        """Return the peers that may be asked now, the most reliable first."""
        now = trio.current_time()
        peers = [self.peer(address) for address in dict.fromkeys(addresses)]
        return sorted(
            (peer for peer in peers if peer.resting <= now),
            key=lambda peer: (peer.failed > peer.delivered, peer.failed, -peer.delivered),
        )

    def delivered(self, peer: Peer, count: int = 1) -> None:
        """Note that a peer gave blocks."""
        peer.delivered += count
        peer.heard = trio.current_time()

    def failed(self, peer: Peer, error: LibernetError) -> None:
        """Let a peer rest that did not do what it should, and say so in the log."""
        seconds = _COOL_DOWN_SECONDS.get(type(error), _OTHER_COOL_DOWN_SECONDS)
        peer.failed += 1
        peer.resting = trio.current_time() + seconds
        peer.last_error = str(error)
        _log.info("peer %s is not asked for %g s: %s", peer.address, seconds, error)

    def status(self) -> list[dict[str, object]]:
        """Return what a person may want to know of each, as plain values for JSON."""
        now = trio.current_time()
        return [
            {
                "address": str(peer.address),
                "delivered": peer.delivered,
                "failed": peer.failed,
                "rests_seconds": max(0.0, round(peer.resting - now, 1)),
                "last_error": peer.last_error,
            }
            for peer in self._peers.values()
        ]

    def close(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            peer.client.close()
