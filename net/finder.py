"""Whom to ask for a block: who gave others of its bundle, who is connected, who announced it."""

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import NetworkError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import HTTP_EXCHANGE, Discovery
from libernet.net.peers import Peer, Peers

_log = logging.getLogger(__name__)

_FIND_SECONDS = 8.0
_FOUND_SECONDS = 10.0  # until discovery is asked again, if all that it found had nothing
_NOTHING_FOUND_SECONDS = 2.0  # the same: readers of many files shall not flood discovery
_MAX_FOUND = 512
_MAX_PROVIDERS = 32  # of one id: each may cost a connection
_NEAR_HINTS = 4  # strangers asked before any look-up: it takes as long as asking so many


@dataclass(slots=True)
class _Found:
    """What discovery knew for an id, and until when it is not asked again."""

    addresses: list[PeerAddress]
    until: float


@dataclass(slots=True)
class _LookUp:
    """A look-up under way, and what came of it; None if who made it was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    addresses: list[PeerAddress] | None = None


class Finder:
    """Find peers worth asking, with one look-up for each id however many want to know.

    State
      _found    what discovery knew lately, by id, the least recently wanted first
      _givers   by root, who gave a block of its bundle last; the same order
      _looking  look-ups under way
    A look-up that failed is not kept: who wants to know next asks again.
    """

    def __init__(self, discovery: Discovery, peers: Peers) -> None:
        self._discovery = discovery
        self._peers = peers
        self._found: OrderedDict[BlockId, _Found] = OrderedDict()
        self._givers: OrderedDict[BlockId, PeerAddress] = OrderedDict()
        self._looking: dict[BlockId, _LookUp] = {}

    def search(self, *ids: BlockId) -> "Search":
        """Return a search for who has a block: *ids* are to be looked up one after the other, that
        of the bundle's root first."""
        return Search(self, ids)

    def gave(self, root: BlockId, address: PeerAddress) -> None:
        """Note who gave a block of a bundle: it is asked first for the next one."""
        self._givers[root] = address
        self._givers.move_to_end(root)
        if len(self._givers) > _MAX_FOUND:
            self._givers.popitem(last=False)

    def near(self, root: BlockId) -> list[Peer]:
        """Return the peers to ask before any look-up."""
        giver = self._givers.get(root)
        found = self._found.get(root)
        known = self._by_merit(found.addresses if found else ())
        hinted = self.hinted()
        proven = self._by_merit(each.address for each in (*known, *hinted) if each.is_proven)
        first = self._by_merit([giver] if giver else ())
        return [*first, *proven, *known, *hinted[:_NEAR_HINTS]]

    def hinted(self) -> list[Peer]:
        """Return peers that may have anything."""
        return self._by_merit(self._discovery.peers_hint())

    async def providers(self, block_id: BlockId) -> list[Peer]:
        """Return who announced an id; nobody when discovery cannot be asked in time."""
        return self._by_merit(await self._addresses(block_id))

    def _by_merit(self, addresses: Iterable[PeerAddress]) -> list[Peer]:
        return self._peers.by_merit(addresses)

    async def _addresses(self, block_id: BlockId) -> list[PeerAddress]:
        while True:
            found = self._found.get(block_id)
            if found is not None and found.until > trio.current_time():
                self._found.move_to_end(block_id)
                return found.addresses
            under_way = self._looking.get(block_id)
            if under_way is None:
                return await self._look_up(block_id)
            await under_way.done.wait()
            if under_way.addresses is not None:
                return under_way.addresses

    async def _look_up(self, block_id: BlockId) -> list[PeerAddress]:
        under_way = self._looking[block_id] = _LookUp()
        try:
            with trio.fail_after(_FIND_SECONDS):
                providers = await self._discovery.find(block_id)
        except (NetworkError, trio.TooSlowError) as exc:
            _log.info("nobody could be asked who has block %s: %s", block_id, exc)
            under_way.addresses = []
        else:
            speaking = [each.address for each in providers if each.flags & HTTP_EXCHANGE]
            under_way.addresses = speaking[:_MAX_PROVIDERS]
            self._keep(block_id, under_way.addresses)
        finally:
            del self._looking[block_id]
            under_way.done.set()
        return under_way.addresses

    def _keep(self, block_id: BlockId, addresses: list[PeerAddress]) -> None:
        seconds = _FOUND_SECONDS if addresses else _NOTHING_FOUND_SECONDS
        self._found[block_id] = _Found(addresses, trio.current_time() + seconds)
        self._found.move_to_end(block_id)
        if len(self._found) > _MAX_FOUND:
            self._found.popitem(last=False)


class Search:
    """The peers worth asking for one block, each handed out once, the most promising first.

    State
      _steps    ids still to be looked up; None stands for strangers who may have anything
      _ready    peers to hand out before the next step
      _seen     whoever was handed out or is among the others
      _resting  those who may be asked when they have rested
    """

    def __init__(self, finder: Finder, ids: tuple[BlockId, ...]) -> None:
        self._finder = finder
        root, *others = dict.fromkeys(ids)
        self._steps: Iterator[BlockId | None] = iter([root, None, *others])
        self._ready: deque[Peer] = deque()
        self._seen: set[PeerAddress] = set()
        self._resting: list[Peer] = []
        self._add(finder.near(root))

    async def next(self) -> Peer | None:
        """Return the next peer, after a look-up when there is none else; None after the last."""
        while True:
            while self._ready:
                peer = self._ready.popleft()
                if not peer.is_resting:
                    return peer
                self._resting.append(peer)
            try:
                wanted = next(self._steps)
            except StopIteration:
                return None
            self._add(await self._finder.providers(wanted) if wanted else self._finder.hinted())

    def failed(self, peer: Peer) -> None:
        """Note that a peer could not say whether it has the block: `rest` waits for it."""
        self._resting.append(peer)

    def resting(self) -> list[Peer]:
        """Return whom to ask when they have rested."""
        return list(self._resting)

    async def rest(self, deadline: float) -> bool:
        """Wait until a peer has rested that must, and let `next` hand it out.

        False at once if there is none or its rest goes on until *deadline*, on trio's clock.
        """
        soonest = min((peer.resting for peer in self._resting), default=deadline)
        if soonest >= deadline:
            return False
        await trio.sleep_until(soonest)
        self._ready.extend(peer for peer in self._resting if not peer.is_resting)
        self._resting = [peer for peer in self._resting if peer.is_resting]
        return True

    def _add(self, peers: Iterable[Peer]) -> None:
        for peer in peers:
            if peer.address not in self._seen:
                self._seen.add(peer.address)
                self._ready.append(peer)
