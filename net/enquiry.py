"""One block asked of peer after peer; when one lets wait, the next is asked as well."""

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockError,
    BlockNotFound,
    LibernetError,
    NetworkError,
)
from libernet.blocks.ids import StoredId
from libernet.net.finder import Search
from libernet.net.peers import Peer, Peers
from libernet.net.standing import Errand

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


class Enquiry:
    """Ask the peers of a search for a block until one gives it.

    State
      asked      the addresses of those asked, in that order; the caller's list
      _block     what came
      _absent    whether anybody said not to have it
      _failures  what the others did
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
        self._places = trio.Semaphore(_AT_ONCE)

    async def run(self) -> bytes:
        """Return the block; waits for peers that rest, as long as the caller lets it.

        BlockNotFound, BlockCorrupt or a NetworkError when all were asked in vain.
        """
        while True:
            async with trio.open_nursery() as nursery:
                await self._places.acquire()
                while (peer := await self._search.next()) is not None:
                    await self._take_turn(peer, nursery)
                    await self._places.acquire()
                self._places.release()
            if self._block is not None:
                return self._block
            if not await self._search.rest(trio.current_effective_deadline()):
                raise self._verdict()

    async def _take_turn(self, peer: Peer, nursery: trio.Nursery) -> None:
        """Ask a peer, and return when it has nothing, or when it is time to ask another as well."""
        errand = peer.standing.asked()  # at once: who chooses next shall know
        if str(peer.address) not in self.asked:
            self.asked.append(str(peer.address))
        over = trio.Event()
        nursery.start_soon(self._ask, peer, errand, over, nursery.cancel_scope)
        # All that a peer is asked shares its line, also what it is asked after this.
        while (now := trio.current_time()) < (end := errand.began + _turn_seconds(peer)):
            with trio.move_on_at(min(now + _TURN_SECONDS, end)):
                await over.wait()
            expected = errand.began + peer.standing.expected_seconds(0)
            if over.is_set() or self._search.soonest() < _MUCH_SOONER * (expected - now):
                return
        if peer.standing.sent_bytes == errand.sent_bytes:
            self._peers.late(peer)

    async def _ask(
        self, peer: Peer, errand: Errand, over: trio.Event, others: trio.CancelScope
    ) -> None:
        size_bytes: int | None = None
        try:
            self._block = await peer.client.get(self._block_id)
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
            peer.standing.over(errand, size_bytes)
            self._places.release()
            over.set()

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
