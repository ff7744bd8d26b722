"""One block asked of peer after peer; when one lets wait, the next is asked as well."""

import trio

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockError,
    BlockNotFound,
    LibernetError,
    NetworkError,
)
from libernet.blocks.ids import BlockId
from libernet.net.finder import Search
from libernet.net.peers import Peer, Peers

_TURN_SECONDS = 0.25
"""How long a peer is asked alone that never gave anything, as RFC 8305 (happy eyeballs) does."""

_PROVEN_TURN_SECONDS = 3.0
"""The same for one that did: a block of 1 MiB may take that long, and is not to come twice."""

_AT_ONCE = 4  # peers, of which each may send the whole block


class Enquiry:
    """Ask the peers of a search for a block until one gives it.

    State
      asked      the addresses of those asked, in that order; the caller's list
      giver      who gave it, and _block, what came
      _absent    whether anybody said not to have it
      _failures  what the others did
    Tasks: one below run() for each of up to _AT_ONCE peers.
    """

    def __init__(self, peers: Peers, search: Search, block_id: BlockId, asked: list[str]) -> None:
        self.asked = asked
        self.giver: Peer | None = None
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
                while (peer := await self._search.next()) is not None:
                    await self._take_turn(peer, nursery)
            if self._block is not None:
                return self._block
            if not await self._search.rest(trio.current_effective_deadline()):
                raise self._verdict()

    async def _take_turn(self, peer: Peer, nursery: trio.Nursery) -> None:
        """Ask a peer, and return when it has nothing, or has let us wait for its turn's time."""
        await self._places.acquire()
        if str(peer.address) not in self.asked:
            self.asked.append(str(peer.address))
        over = trio.Event()
        nursery.start_soon(self._ask, peer, over, nursery.cancel_scope)
        turn = trio.move_on_after(_PROVEN_TURN_SECONDS if peer.is_proven else _TURN_SECONDS)
        with turn:
            await over.wait()
        if turn.cancelled_caught:
            self._peers.late(peer)

    async def _ask(self, peer: Peer, over: trio.Event, others: trio.CancelScope) -> None:
        try:
            self._block = await peer.client.get(self._block_id)
        except BlockNotFound:
            self._absent = True
        except (BlockError, NetworkError) as exc:
            self._failures.append(exc)
            self._peers.failed(peer, exc)
            self._search.failed(peer)
        else:
            self.giver = peer
            self._peers.delivered(peer, size_bytes=len(self._block))
            others.cancel()
        finally:
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
