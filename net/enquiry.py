"""One block asked of peer after peer; when one lets wait, the next is asked as well."""

from math import inf

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockError,
    BlockNotFound,
    LibernetError,
    NetworkError,
    PeerTimeout,
)
from libernet.blocks.ids import StoredId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.net.finder import Search
from libernet.net.peers import Peer, Peers

_TURN_SECONDS = 0.25
"""How long a peer is asked alone at least, as RFC 8305 (happy eyeballs) does."""

_MOST_SECONDS = 3.0
"""How long it is at most."""

_PATIENCE = 3.0
"""How many times as long as expected a block may take before another peer is asked as well: it is
not to come twice only because a machine was busy for a moment."""

_PATIENCE_WITH_STRANGERS = 1.4
"""The same for a peer that never gave anything: it gets the 0.25 s if it has nothing else to do."""

_MUCH_SOONER = 0.5
"""If one who has little to do needs that part of the time that is left, it is asked as well."""

_AT_ONCE = 4  # peers, of which each may send the whole block

_CHANCE_SECONDS = 1.5
"""How long every peer is asked: so long it takes one far away to begin."""

_LONG_SECONDS = 3.0
"""Whoever takes longer still makes way for an untried peer, where all places are taken."""


class _Asked:
    """A peer that is asked; *scope* ends that. `received_bytes` are what came."""

    __slots__ = ("errand", "peer", "received_bytes", "scope")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.errand = peer.standing.asked()  # at once: who chooses next shall know
        self.scope = trio.CancelScope()
        self.received_bytes = 0

    def heard(self, received_bytes: int) -> None:
        self.received_bytes += received_bytes

    def left_seconds(self) -> float:
        """Return how long a large block takes still, 0 for a peer that is not late."""
        elapsed = trio.current_time() - self.errand.began
        if elapsed < max(_PATIENCE * self.peer.standing.expected_seconds(0), _CHANCE_SECONDS):
            return 0.0
        left = max(MAX_CHUNK_BYTES - self.received_bytes, 0)
        return left * elapsed / self.received_bytes if self.received_bytes else inf


class Enquiry:
    """Ask the peers of a search for a block until one gives it.

    State
      asked        the addresses of those asked, in that order; the caller's list
      _under_way   who is being asked
      _began       when, on trio's clock
      _ended       when one of those under way is through
      _block       what came
      _absent      whether anybody said not to have it
      _failures    what the others did
    Tasks: one below run() for each of up to _AT_ONCE peers.
    """

    def __init__(self, peers: Peers, search: Search, block_id: StoredId, asked: list[str]) -> None:
        self.asked = asked
        self._peers = peers
        self._search = search
        self._block_id = block_id
        self._block: bytes | None = None
        self._absent = False
        self._failures: list[LibernetError] = []
        self._under_way: list[_Asked] = []
        self._began = trio.current_time()
        self._ended = trio.Event()

    async def run(self) -> bytes:
        """Return the block; waits for peers that rest, as long as the caller lets it.

        BlockNotFound, BlockCorrupt or a NetworkError when all were asked in vain.
        """
        while True:
            async with trio.open_nursery() as nursery:
                while (peer := await self._search.next()) is not None:
                    await self._place()
                    await self._take_turn(peer, nursery)
            if self._block is not None:
                return self._block
            if not await self._search.rest(trio.current_effective_deadline()):
                raise self._verdict()

    async def _place(self) -> None:
        """Wait until fewer than _AT_ONCE are asked; no pause if they are, in which others choose.

        Who needs longest still makes way, if that is longer than all the time that went by: of
        many slow ones only so many are given up that what they sent is no great loss.
        """
        while len(self._under_way) == _AT_ONCE:
            self._ended = trio.Event()
            with trio.move_on_after(_TURN_SECONDS):
                await self._ended.wait()
                continue
            slowest = max(self._under_way, key=_Asked.left_seconds)
            elapsed = trio.current_time() - self._began
            if slowest.left_seconds() > max(_LONG_SECONDS, elapsed):
                slowest.scope.cancel()

    async def _take_turn(self, peer: Peer, nursery: trio.Nursery) -> None:
        """Ask a peer, and return when it has nothing, or when it is time to ask another as well."""
        asked = _Asked(peer)
        self._under_way.append(asked)
        if str(peer.address) not in self.asked:
            self.asked.append(str(peer.address))
        errand, over = asked.errand, trio.Event()
        nursery.start_soon(self._ask, asked, over, nursery.cancel_scope)
        # All that a peer is asked shares its line, also what it is asked after this.
        while (now := trio.current_time()) < (end := errand.began + _turn_seconds(peer)):
            with trio.move_on_at(min(now + _TURN_SECONDS, end)):
                await over.wait()
            expected = errand.began + peer.standing.expected_seconds(0)
            if over.is_set() or self._search.soonest() < _MUCH_SOONER * (expected - now):
                return
        if peer.standing.sent_bytes == errand.sent_bytes:
            self._peers.late(peer)

    async def _ask(self, asked: _Asked, over: trio.Event, others: trio.CancelScope) -> None:
        peer = asked.peer
        size_bytes: int | None = None
        try:
            self._block = await self._answer(asked)
            size_bytes = len(self._block)
        except BlockNotFound:
            size_bytes = 0
            self._absent = True
            self._search.lacked(peer)
        except (BlockError, NetworkError) as exc:
            self._failures.append(exc)
            self._peers.failed(peer, exc)
            self._search.failed(peer)
        else:
            self._peers.delivered(peer, size_bytes=size_bytes)
            self._search.gave(peer)
            others.cancel()
        finally:
            peer.standing.over(asked.errand, size_bytes)
            self._under_way.remove(asked)
            self._ended.set()
            over.set()

    async def _answer(self, asked: _Asked) -> bytes:
        with asked.scope:
            return await asked.peer.client.get(self._block_id, asked.heard)
        raise PeerTimeout(
            f"peer {asked.peer.address} sent {asked.received_bytes} bytes in "
            f"{trio.current_time() - asked.errand.began:.1f} s, and another is asked"
        )

    def _verdict(self) -> LibernetError:
        block = f"block {self._block_id}"
        for exc in self._failures:
            if isinstance(exc, BlockCorrupt):
                return BlockCorrupt(f"only wrong bytes of {block} are to be had: {exc}")
        resting = self._search.resting()
        if resting and not self._absent:
            why = f"peer {resting[-1].address} rests: {resting[-1].last_error}"
            return NetworkError(f"nobody can be asked for {block} right now; {why}")
        whom = f"{len(self.asked)} peers were asked" if self.asked else "no peer is known who might"
        return BlockNotFound(f"nobody has {block} right now: {whom}")


def _turn_seconds(peer: Peer) -> float:
    """Return how long a peer is asked alone that others could be asked beside."""
    patience = _PATIENCE if peer.is_proven else _PATIENCE_WITH_STRANGERS
    return min(max(patience * peer.standing.expected_seconds(0), _TURN_SECONDS), _MOST_SECONDS)
