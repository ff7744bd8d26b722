"""Whom to ask for a block: who gave others of its bundle, who is connected, who announced it."""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from libernet.blocks.errors import NetworkError
from libernet.blocks.ids import BlockId, StoredId
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
_MAX_HOLDERS = 32  # of one bundle that are remembered
_REMEMBERED_ANSWERS = 64  # of one holder; then all count half
_BUSY_SECONDS = 0.5  # if all who are near need as long for a block, others are looked up as well


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


@dataclass(slots=True)
class _Answers:
    """How often a peer gave a block of a bundle, and said that it has one not."""

    gave: int = 0
    lacked: int = 0

    def add(self, *, gave: int = 0, lacked: int = 0) -> None:
        if self.gave + self.lacked >= _REMEMBERED_ANSWERS:
            self.gave //= 2
            self.lacked //= 2
        self.gave += gave
        self.lacked += lacked

    def doubt(self) -> float:
        """Return after how many blocks asked for it gives one, as far as can be told."""
        return (self.gave + self.lacked + 2) / (self.gave + 1)


class Finder:
    """Find peers worth asking, with one look-up for each id however many want to know.

    State
      _found    what discovery knew lately, by id, the least recently wanted first
      _holders  by root, what peers answered who were asked for blocks of its bundle, the one asked
                last at the end; the same order
      _looking  look-ups under way
    A look-up that failed is not kept: who wants to know next asks again.
    """

    def __init__(self, discovery: Discovery, peers: Peers) -> None:
        self._discovery = discovery
        self._peers = peers
        self._found: OrderedDict[StoredId, _Found] = OrderedDict()
        self._holders: OrderedDict[StoredId, dict[PeerAddress, _Answers]] = OrderedDict()
        self._looking: dict[StoredId, _LookUp] = {}

    def search(self, *ids: StoredId) -> "Search":
        """Return a search for who has a block: *ids* are to be looked up one after the other, that
        of the bundle's root first. Blobs are not: nobody announces them."""
        return Search(self, ids)

    def gave(self, root: StoredId, address: PeerAddress, count: int = 1) -> None:
        """Note who gave blocks of a bundle: it is asked before others for the next ones."""
        self._answers(root, address).add(gave=count)

    def lacked(self, root: StoredId, address: PeerAddress) -> None:
        """Note who did not have a block of a bundle: others are asked before it."""
        self._answers(root, address).add(lacked=1)

    def cost(self, root: StoredId, peer: Peer) -> tuple[bool, float]:
        """Return what to compare peers by that may be asked for a block of a bundle."""
        is_failing, seconds = peer.cost()
        answers = self._holders.get(root, {}).get(peer.address)
        return is_failing, seconds * (answers or self._stranger(root, peer.address)).doubt()

    def near(self, root: StoredId) -> list[Peer]:
        """Return the peers to ask before any look-up."""
        found = self._found.get(root)
        known = self._by_merit(found.addresses if found else ())
        hinted = self.hinted()
        proven = [each for each in hinted if each.is_proven]
        return [*self.givers(root), *known, *proven, *hinted[:_NEAR_HINTS]]

    def givers(self, root: StoredId) -> list[Peer]:
        """Return those who gave blocks of a bundle lately."""
        holders = self._holders.get(root, {}).items()
        return self._by_merit(address for address, answers in holders if answers.gave)

    def is_busy(self, root: StoredId) -> bool:
        """Say whether those near have much to do, and others might be found: see `widen`."""
        found = self._found.get(root)
        if root in self._looking or (found is not None and found.until > trio.current_time()):
            return False
        usable = [each.standing for each in self.near(root) if each.is_proven]
        return bool(usable) and all(each.expected_seconds() > _BUSY_SECONDS for each in usable)

    async def widen(self, root: BlockId) -> None:
        """Look up who announced a bundle, for the fetches of its blocks that are still to come."""
        await self._addresses(root)

    def hinted(self) -> list[Peer]:
        """Return peers that may have anything."""
        return self._by_merit(self._discovery.peers_hint())

    async def providers(self, block_id: BlockId) -> list[Peer]:
        """Return who announced an id; nobody when discovery cannot be asked in time."""
        return self._by_merit(await self._addresses(block_id))

    def _answers(self, root: StoredId, address: PeerAddress) -> _Answers:
        """Return what is known of a peer and a bundle, to be added to."""
        holders = self._holders.setdefault(root, {})
        self._holders.move_to_end(root)
        if len(self._holders) > _MAX_FOUND:
            self._holders.popitem(last=False)
        answers = holders.pop(address, None) or self._stranger(root, address)
        holders[address] = answers
        if len(holders) > _MAX_HOLDERS:
            del holders[next(iter(holders))]
        return answers

    def _stranger(self, root: StoredId, address: PeerAddress) -> _Answers:
        """Return what is thought of a peer that was not asked: who announced a bundle has it."""
        found = self._found.get(root)
        return _Answers(gave=int(found is not None and address in found.addresses))

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
      _steps    ids still to be looked up; None stands for strangers who may have anything. All
                come again after a rest: somebody new may have come, or come back elsewhere
      _ready    peers to hand out before the next step; who is best is decided then
      _seen     whoever was handed out or is among the others
      _resting  those who may be asked when they have rested
    """

    def __init__(self, finder: Finder, ids: tuple[StoredId, ...]) -> None:
        self._finder = finder
        root = ids[0]
        blocks = [each for each in dict.fromkeys(ids) if isinstance(each, BlockId)]
        self._root = root
        self._all_steps: list[BlockId | None] = [*blocks[:1], None, *blocks[1:]]
        self._steps = iter(self._all_steps)
        self._ready: list[Peer] = []
        self._seen: set[PeerAddress] = set()
        self._resting: list[Peer] = []
        self._add(finder.near(root))

    async def next(self) -> Peer | None:
        """Return the next peer, after a look-up when there is none else; None after the last."""
        while True:
            self._resting += [each for each in self._ready if each.is_resting]
            self._ready = [each for each in self._ready if not each.is_resting]
            if self._ready:
                best = min(self._ready, key=self._cost)
                self._ready.remove(best)
                return best
            try:
                wanted = next(self._steps)
            except StopIteration:
                return None
            self._add(await self._finder.providers(wanted) if wanted else self._finder.hinted())

    def soonest(self) -> float:
        """Return in how many seconds one who can be asked next is likely to give the block."""
        costs = [self._cost(each) for each in self._ready if not each.is_resting]
        is_failing, seconds = min(costs, default=(True, 0.0))
        return math.inf if is_failing else seconds

    def gave(self, peer: Peer) -> None:
        """Note that a peer gave the block."""
        self._finder.gave(self._root, peer.address)

    def lacked(self, peer: Peer) -> None:
        """Note that a peer does not have the block."""
        self._finder.lacked(self._root, peer.address)

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
        self._steps = iter(self._all_steps)
        self._ready.extend(peer for peer in self._resting if not peer.is_resting)
        self._resting = [peer for peer in self._resting if peer.is_resting]
        return True

    def _cost(self, peer: Peer) -> tuple[bool, float]:
        return self._finder.cost(self._root, peer)

    def _add(self, peers: Iterable[Peer]) -> None:
        for peer in peers:
            if peer.address not in self._seen:
                self._seen.add(peer.address)
                self._ready.append(peer)
